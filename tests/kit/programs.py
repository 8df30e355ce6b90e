"""Real programs for system tests: started, listened to, measured, and ended by their own pid.

Every program is ended by whoever started it (``with``); a line that does not come within its time
fails with everything that the program had said until then.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any, Self

import psutil

START_SECONDS = 30.0  # a program's first words on a busy machine with cold files


def environment(home: Path, **extra: str) -> dict[str, str]:
    """What a program of a test sees: this process's environment without settings and proxies of ours."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("WELLHEAD_") and not name.lower().endswith("_proxy")
    }
    return kept | {"WELLHEAD_HOME": str(home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | extra


class Program:
    """One child process; its output is collected line by line while it runs."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = list(command)
        self.lines: list[str] = []  # stdout and stderr, as they came
        self.out: list[str] = []
        self.err: list[str] = []
        self.checked = 0  # lines that a test has looked through for complaints
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            self.command,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            bufsize=1,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    def line(self, pattern: str, seconds: float = START_SECONDS, *, after: int = 0) -> re.Match[str]:
        """The first line from number ``after`` on that ``pattern`` is found in, waited for.

        Raises:
            AssertionError: it did not come in time, or the program ended without it.
        """
        expression, deadline, seen = re.compile(pattern), time.monotonic() + seconds, after
        with self._news:
            while True:
                for text in self.lines[seen:]:
                    if found := expression.search(text):
                        return found
                seen = max(seen, len(self.lines))
                left = deadline - time.monotonic()
                ended = not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or ended:
                    why = f"exited with {self.process.poll()}" if ended else f"not within {seconds:g} s"
                    said = "\n".join(self.lines[-60:])
                    raise AssertionError(f"{self.command[:6]}: no line with {pattern!r} ({why}):\n{said}")
                self._news.wait(min(left, 0.2))

    def mark(self) -> int:
        """How many lines there are now, for ``line(after=...)``."""
        with self._news:
            return len(self.lines)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit code, all output read.

        Raises:
            AssertionError: it still runs after that time.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.command[:6]} still runs after {seconds:g} s:\n{self.text[-4000:]}"
            ) from None
        for reader in self._readers:
            reader.join(5)
        return code

    def stop(self, number: int = SIGTERM, seconds: float = START_SECONDS) -> int:
        """Send a signal and wait for the exit code."""
        self.signal(number)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it whatever it does. Idempotent.

        Raises:
            AssertionError: something that it started lives on, and holds its output.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a stopped one would not be reaped in time
            self.process.kill()
        self.process.wait(10)
        for reader in self._readers:
            reader.join(5)
        if any(reader.is_alive() for reader in self._readers):  # to close under them would wait for them
            said = self.text[-4000:]
            raise AssertionError(f"{self.command[:6]} left behind what holds its output:\n{said}")
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def memory(self) -> tuple[int, int]:
        """Resident bytes: now, and the most there ever were."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (re.search(rf"^{key}:\s+(\d+) kB", status, re.M) for key in ("VmRSS", "VmHWM"))
        assert now is not None and peak is not None
        return int(now[1]) * 1024, int(peak[1]) * 1024

    def kept_waiting(self) -> float:
        """Seconds that it was ready to run and other programs ran: no delay of its own making."""
        return kept_waiting(self.pid)

    def descriptors(self) -> int:
        """How many files and sockets it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def arguments(self) -> bytes:
        """Its command line as every user of this machine sees it."""
        return Path(f"/proc/{self.pid}/cmdline").read_bytes()

    def forget_peak(self) -> None:
        """Let the most memory be counted from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _read(self, stream: IO[str] | None, kept: list[str]) -> None:
        assert stream is not None
        try:
            for text in stream:
                with self._news:
                    kept.append(text.rstrip("\n"))
                    self.lines.append(kept[-1])
                    self._news.notify_all()
        except ValueError:  # closed under us by `kill`
            pass
        with self._news:
            self._news.notify_all()


def kept_waiting(pid: int | str = "self") -> float:
    """Seconds that a process's first thread was ready to run while other programs had the processors."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def wellhead(*arguments: str) -> list[str]:
    """The command line of the program under test."""
    return [sys.executable, "-m", "wellhead", *arguments]


class Edge(Program):
    """``wellhead up`` on free loopback ports, in a home of its own under ``home``."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        settings: Mapping[str, object] | None = None,
        wait: bool = True,
        prefix: Sequence[str] = (),
        https: str = "127.0.0.1:0",
        http: str = "127.0.0.1:0",
    ) -> None:
        """``settings`` become ``WELLHEAD_*`` variables; ``prefix`` comes before the command."""
        self.home = home
        self.data = home / "server"
        self.ca = self.data / "ca.pem"
        self.https = self.http = 0  # ports
        self.address = "127.0.0.1"
        self.api = ""
        extra = {f"WELLHEAD_{key.upper()}": str(value) for key, value in (settings or {}).items()}
        super().__init__(
            [*prefix, *wellhead("up", "--https", https, "--http", http, *flags)],
            environment(home, **extra),
        )
        if wait:
            try:
                self.ready()
            except BaseException:
                self.kill()
                raise

    def ready(self, seconds: float = START_SECONDS) -> Self:
        """Wait for the line ``ready`` and take the ports from it."""
        found = self.line(r"^ready https=(\S+) http=(\S+) api=(\S+)$", seconds)
        self.https = _port(found[1])
        self.address = _address(found[1])
        self.http = 0 if found[2] == "off" else _port(found[2])
        self.api = found[3]
        return self

    @property
    def key(self) -> str:
        return (self.data / "admin-key").read_text().strip()

    def control(self) -> psutil.Process:
        """The process of its control plane.

        Raises:
            AssertionError: there is none just now.
        """
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                if "wellhead.serve_control" in child.cmdline():
                    return child
        raise AssertionError("no control plane")

    def trust(self) -> ssl.SSLContext:
        """A visitor's context that trusts this server's authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))

    def agent(self, upstream: int | str, *flags: str, wait: bool = True, **extra: str) -> Agent:
        """``wellhead http`` on the same machine, by the profile that the server left."""
        return Agent(self.home, str(upstream), *flags, wait=wait, extra=extra)


class Agent(Program):
    """``wellhead http``, or another ``command`` that answers for a tunnel.

    ``name``, ``url`` and ``plain_url`` are what it printed.
    """

    def __init__(
        self,
        home: Path,
        upstream: str,
        *flags: str,
        wait: bool = True,
        prefix: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
        command: str = "http",
        cwd: Path | None = None,
    ) -> None:
        self.url = self.plain_url = self.name = ""
        super().__init__(
            [*prefix, *wellhead(command, upstream, *flags)], environment(home, **(extra or {})), cwd
        )
        if wait:
            try:
                self.connected()
            except BaseException:
                self.kill()
                raise

    def connected(self, seconds: float = START_SECONDS) -> Self:
        """Wait for the public URLs and for the first session."""
        self.url = self.line(r"(https://[a-z0-9-]+\.[a-z0-9.-]+(:\d+)?)", seconds)[1]
        self.name = self.url.removeprefix("https://").partition(".")[0]
        self.line(r"(?i)\b(online|connected)\b", seconds)
        if found := re.search(rf"http://{re.escape(self.name)}\.[a-z0-9.:-]+", self.text):
            self.plain_url = found[0]
        return self

    @property
    def hostname(self) -> str:
        return self.url.removeprefix("https://").partition(":")[0]


def _port(addresses: str) -> int:
    """The port of ``https://127.0.0.1:1,https://[::1]:1``; every address has the same."""
    ports = {int(address.rpartition(":")[2]) for address in addresses.split(",")}
    assert len(ports) == 1, addresses
    return ports.pop()


def _address(addresses: str) -> str:
    """Where a test dials ``https://127.0.0.1:1,https://[::1]:1``: the address of loopback's that is there."""
    found = re.search(r"//(127\.[0-9.]+):", addresses)
    return found[1] if found is not None else "127.0.0.1"


def quiet_port() -> int:
    """A port that nobody listens on, outside the range that outgoing connections are given theirs from.

    Each of two workers has its own, even and odd.
    """
    first = 20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 2
    for port in random.sample(range(first, 32_000, 2), 200):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("200 ports tried, none free")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of loopback."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def run(
    *arguments: str, home: Path, seconds: float = START_SECONDS, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """One short ``wellhead`` command, to its end."""
    return subprocess.run(
        wellhead(*arguments),
        env=environment(home, **extra),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def eventually(check: Any, seconds: float, *, every: float = 0.05) -> Any:
    """The first true answer of ``check()``, asked again and again.

    Raises:
        AssertionError: there was none in time; an assertion of ``check`` itself is repeated.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answer := check():
                return answer
            failure: AssertionError | None = None
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not true within {seconds:g} s")
        time.sleep(every)
