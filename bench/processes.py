"""Programs under measurement: started, metered through /proc, and ended; never anybody else's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_LOWEST = 19  # niceness


class Unavailable(Exception):
    """A target cannot be measured here; the text is the reason, in one line."""


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Ours with these changes; None takes a variable away."""
    changed = {**os.environ, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One program we started, its descendants, and the file its output goes to."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
    ) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment(env or {}),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def give_way(self) -> None:
        """Let the program and what it starts from here on take only the CPU that nobody else wants."""
        pid = self._process.pid
        os.setpriority(os.PRIO_PROCESS, pid, _LOWEST)
        # Where Linux schedules sessions as groups, a niceness counts within its own session alone.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(_LOWEST))

    def tell(self, line: str) -> None:
        """Write one line to the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def pids(self) -> list[int]:
        """The program and all its living descendants."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (parent := _parent(int(entry))) is not None:
                children.setdefault(parent, []).append(int(entry))
        found = [self._process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def wait_for(self, pattern: str, seconds: float) -> re.Match[str]:
        """The first match of ``pattern`` in the output.

        Raises:
            Unavailable: the program ended, or said nothing of the kind in time; with its last line.
        """
        deadline = time.monotonic() + seconds
        while True:
            text = self.log.read_text(errors="replace")
            if match := re.search(pattern, text, re.MULTILINE):
                return match
            self.check(deadline)
            time.sleep(0.02)

    def check(self, deadline: float) -> None:
        """Nothing, while the program runs and ``deadline`` (monotonic) has not passed.

        Raises:
            Unavailable: otherwise; with the last thing the program said.
        """
        code = self._process.poll()
        if code is None and time.monotonic() < deadline:
            return
        text = self.log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("hint:")]
        how = "was not ready in time" if code is None else f"ended with {code}"
        raise Unavailable(f"{self.log.stem} {how}, last line: {(lines or ['nothing'])[-1][:160]}")

    def stop(self) -> None:
        """Ask the program to end, insist after five seconds."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time used by all living threads of these processes, exact to the nanosecond."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between two looks
    return total / 1e9


def machine_cpu_seconds() -> float:
    """CPU time used by everything on this machine since it started; resolution 10 ms."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]  # without idle and iowait
    return busy / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one or several processes, in KiB. PSS counts a shared page once over all that share it."""

    rss: int
    pss: int


def memory(pids: Iterable[int]) -> Memory:
    rss = pss = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in rollup.splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return Memory(rss, pss)


def free_port() -> int:
    """A TCP port free at this moment on 127.0.0.1, and on ::1 where IPv6 exists."""
    for _ in range(100):
        with socket.socket() as four:
            four.bind(("127.0.0.1", 0))
            port: int = four.getsockname()[1]
            if not has_ipv6():
                return port
            with socket.socket(socket.AF_INET6) as six:
                try:
                    six.bind(("::1", port))
                except OSError:
                    continue
                return port
    raise Unavailable("no free port on 127.0.0.1 and ::1 in 100 tries")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as six:
            six.bind(("::1", 0))
    except OSError:
        return False
    return True


def wait_for_port(port: int, child: Child, seconds: float = 10) -> None:
    """Until somebody listens on 127.0.0.1:port.

    Raises:
        Unavailable: nobody did in time, or ``child`` ended before.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            child.check(deadline)
            time.sleep(0.02)


@contextlib.contextmanager
def pinned(pids: Iterable[int]) -> Iterator[None]:
    """These processes, we, and whatever we start meanwhile, all on one CPU.

    One connection keeps one program awake at a time; on several CPUs most of its round trip would be the
    waking of idle CPUs, which says nothing about the programs.
    """
    everywhere = os.sched_getaffinity(0)
    tasks = [0, *_tasks(pids)]
    for task in tasks:
        _pin(task, {max(everywhere)})
    try:
        yield
    finally:
        for task in tasks:
            _pin(task, everywhere)


def _tasks(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        try:
            yield from map(int, os.listdir(f"/proc/{pid}/task"))
        except FileNotFoundError:
            continue


def _pin(task: int, cpus: set[int]) -> None:
    try:
        os.sched_setaffinity(task, cpus)
    except ProcessLookupError:
        pass
