"""Control groups: what a sandbox may take of memory, processors and processes, and how all of it is frozen
or killed.

Version 1 has a tree for each controller, version 2 one tree for all; a machine may have both, the
controllers in one and freezing in the other, so each is used for what it offers. The groups of a sandbox::

    {controller}/{parent}/{id}        version 1
    {unified}/{parent}/{id}           version 2: limits, freeze, kill; the machine's
    {unified}/{parent}/{id}/guest     given to the sandbox, whose guest divides it among what it starts

Source: the kernel's admin-guide/cgroup-v2 and admin-guide/cgroup-v1.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wellhead.errors import HostError

_CONTROLLERS = ("memory", "cpu", "pids")
_V1 = (*_CONTROLLERS, "cpuacct", "freezer")
_PERIOD = 100_000  # microseconds in which a share of the processors is counted out
_GUEST = "guest"
_FREEZE_SECONDS = 5.0
_EMPTY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where the machine's control groups are: ``unified`` is version 2, ``of`` version 1 by controller."""

    unified: Path | None
    of: Mapping[str, Path]

    @classmethod
    def found(cls, mountinfo: str) -> Hierarchies:
        """From the text of ``/proc/self/mountinfo``. Source: proc(5)."""
        unified, of = None, {}
        for line in mountinfo.splitlines():
            before, _, after = line.partition(" - ")
            place, (kind, _, options) = Path(before.split()[4]), after.split()
            if kind == "cgroup2":
                unified = place
            elif kind == "cgroup":
                of.update({each: place for each in options.split(",") if each in _V1})
        return cls(unified, of)


@dataclass(frozen=True, slots=True)
class Limits:
    vcpus: float
    memory_bytes: int
    pids: int


@dataclass(frozen=True, slots=True)
class Group:
    """``joined``: files to which a process writes 0 to be in it. ``delegated``: as ``{unified}/../guest``."""

    joined: list[str]
    delegated: str


@dataclass(frozen=True, slots=True)
class Taken:
    cpu_seconds: float
    memory_bytes: int
    pids: int


class Cgroups:
    """The control groups under ``parent``. Calls may take some milliseconds."""

    def __init__(self, hierarchies: Hierarchies, parent: str = "wellhead") -> None:
        self._of = {each: place / parent for each, place in hierarchies.of.items()}
        self._unified = hierarchies.unified / parent if hierarchies.unified else None
        self._has: frozenset[str] = frozenset()  # controllers of version 2 that can be used

    def start(self) -> list[str]:
        """Make the parents; what cannot be limited here, in sentences.

        Raises:
            HostError: this machine has no control groups that we may use.
        """
        if self._unified is None and "freezer" not in self._of:
            raise HostError("no control groups are mounted here: mount cgroup2 at /sys/fs/cgroup")
        try:
            for place in set(self._of.values()):
                place.mkdir(exist_ok=True)
            if self._unified is not None:
                self._unified.mkdir(exist_ok=True)
                self._has = self._enabled(self._unified)
        except OSError as error:
            raise HostError(f"cannot make control groups: {error}") from error
        return [
            f"the machine has no {each} controller for control groups: {what} of a sandbox is not limited"
            for each, what in zip(_CONTROLLERS, ("memory", "CPU time", "number of processes"), strict=True)
            if each not in self._of and each not in self._has
        ]

    def make(self, name: str, limits: Limits, owner: int) -> Group:
        """A group for a sandbox whose user 0 is ``owner`` outside.

        Raises:
            HostError: it cannot be made.
        """
        try:
            for place in self._v1(name):
                place.mkdir(exist_ok=True)
            joined = [str(place / "cgroup.procs") for place in self._v1(name)]
            self._limit_v1(name, limits)
            if self._unified is None:
                return Group(joined, "")
            place = self._unified / name
            guest = place / _GUEST
            guest.mkdir(parents=True, exist_ok=True)
            self._limit_v2(place, limits)
            for path in (guest, *(guest / each for each in ("cgroup.procs", "cgroup.subtree_control"))):
                os.chown(path, owner, owner)
            return Group([*joined, str(guest / "cgroup.procs")], str(guest))
        except OSError as error:
            raise HostError(f"cannot make the control group of {name}: {error}") from error

    def freeze(self, name: str) -> None:
        """
        Raises:
            HostError: it is not frozen after some seconds; it is let go again.
        """
        try:
            self._set_frozen(name, True)
        except HostError:
            self._set_frozen(name, False)
            raise

    def thaw(self, name: str) -> None:
        self._set_frozen(name, False)

    def is_frozen(self, name: str) -> bool:
        """Whether it is, or is to be."""
        if self._unified is not None:
            return _read(self._unified / name / "cgroup.freeze").strip() == "1"
        return _read(self._of["freezer"] / name / "freezer.state").strip() in ("FROZEN", "FREEZING")

    def kill(self, name: str) -> None:
        """Kill every process in it, frozen or not."""
        if self._unified is not None:
            with contextlib.suppress(OSError):
                _write(self._unified / name / "cgroup.kill", "1")
        for place in self._everywhere(name):
            for pid in _processes(place):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(HostError, OSError):
            self.thaw(name)

    def free(self, name: str) -> None:
        """Remove its groups, in which no process may be for much longer.

        Raises:
            HostError: something in it lives on.
        """
        end = time.monotonic() + _EMPTY_SECONDS
        for place in self._everywhere(name):
            for each in reversed(list(_below(place))):
                while True:
                    try:
                        each.rmdir()
                    except FileNotFoundError:
                        break
                    except OSError as error:
                        if time.monotonic() > end:
                            raise HostError(f"cannot remove the control group {each}: {error}") from error
                        time.sleep(0.002)
                    else:
                        break

    def names(self) -> set[str]:
        """Every group under the parent."""
        parents = [*self._of.values(), *([self._unified] if self._unified else [])]
        return {
            each.name for parent in parents if parent.is_dir() for each in parent.iterdir() if each.is_dir()
        }

    def taken(self, name: str) -> Taken:
        return Taken(self._cpu_seconds(name), self._memory(name), self._pids(name))

    def _v1(self, name: str) -> list[Path]:
        return [place / name for place in dict.fromkeys(self._of.values())]

    def _everywhere(self, name: str) -> list[Path]:
        return [*([self._unified / name] if self._unified else []), *self._v1(name)]

    def _limit_v1(self, name: str, limits: Limits) -> None:
        if (memory := self._of.get("memory")) is not None:
            _write(memory / name / "memory.limit_in_bytes", str(limits.memory_bytes))
            if (swap := memory / name / "memory.memsw.limit_in_bytes").exists():
                _write(swap, str(limits.memory_bytes))
        if (cpu := self._of.get("cpu")) is not None:
            _write(cpu / name / "cpu.cfs_period_us", str(_PERIOD))
            _write(cpu / name / "cpu.cfs_quota_us", str(_quota(limits)))
        if (pids := self._of.get("pids")) is not None:
            _write(pids / name / "pids.max", str(limits.pids))

    def _limit_v2(self, place: Path, limits: Limits) -> None:
        if "memory" in self._has:
            _write(place / "memory.max", str(limits.memory_bytes))
            if (swap := place / "memory.swap.max").exists():
                _write(swap, "0")
        if "cpu" in self._has:
            _write(place / "cpu.max", f"{_quota(limits)} {_PERIOD}")
        if "pids" in self._has:
            _write(place / "pids.max", str(limits.pids))

    def _enabled(self, parent: Path) -> frozenset[str]:
        """The controllers of version 2 that groups in ``parent`` have, after asking for all that matter."""
        for place in (parent.parent, parent):
            there = set(_read(place / "cgroup.controllers").split())
            there -= set(_read(place / "cgroup.subtree_control").split())
            for each in _CONTROLLERS:
                if each in there and each not in self._of:
                    with contextlib.suppress(OSError):  # what is missing then is told
                        _write(place / "cgroup.subtree_control", f"+{each}")
        return frozenset(_read(parent / "cgroup.subtree_control").split())

    def _set_frozen(self, name: str, frozen: bool) -> None:
        try:
            if self._unified is not None:
                place = self._unified / name
                _write(place / "cgroup.freeze", "1" if frozen else "0")
                _await(place / "cgroup.events", f"frozen {frozen:d}")
            else:
                state = self._of["freezer"] / name / "freezer.state"
                wanted = "FROZEN" if frozen else "THAWED"
                _write(state, wanted)
                _await(state, wanted)
        except OSError as error:
            raise HostError(f"cannot {'freeze' if frozen else 'thaw'} {name}: {error}") from error

    def _cpu_seconds(self, name: str) -> float:
        if (place := self._of.get("cpuacct")) is not None:
            return int(_read(place / name / "cpuacct.usage") or 0) / 1e9
        if self._unified is None:
            return 0.0
        return _stat(self._unified / name / "cpu.stat").get("usage_usec", 0) / 1e6

    def _memory(self, name: str) -> int:
        """What would not be given back if it were asked for: without files that are only kept for a while."""
        if (place := self._of.get("memory")) is not None:
            used = int(_read(place / name / "memory.usage_in_bytes") or 0)
            return max(0, used - _stat(place / name / "memory.stat").get("total_inactive_file", 0))
        if self._unified is None:
            return 0
        used = int(_read(self._unified / name / "memory.current") or 0)
        return max(0, used - _stat(self._unified / name / "memory.stat").get("inactive_file", 0))

    def _pids(self, name: str) -> int:
        if (place := self._of.get("pids")) is not None:
            return int(_read(place / name / "pids.current") or 0)
        if self._unified is not None and (text := _read(self._unified / name / "pids.current")):
            return int(text)
        return len(_processes(self._everywhere(name)[0]))


def _quota(limits: Limits) -> int:
    return max(1000, int(limits.vcpus * _PERIOD))  # the kernel takes no less than a millisecond


def _await(path: Path, line: str) -> None:
    """Until the file says so; the kernel wakes us when it says something else."""
    end = time.monotonic() + _FREEZE_SECONDS
    with open(path) as file:
        changes = select.poll()
        changes.register(file, select.POLLPRI)
        while True:
            file.seek(0)
            if line in file.read().splitlines():
                return
            if time.monotonic() > end:
                raise HostError(f"{path} does not say {line!r} after {_FREEZE_SECONDS:g} seconds")
            changes.poll(5)  # milliseconds; not every such file wakes us


def _below(place: Path) -> Iterator[Path]:
    """A group and all in it, parents first."""
    yield place
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path))


def _processes(place: Path) -> list[int]:
    return [int(line) for each in _below(place) for line in _read(each / "cgroup.procs").split()]


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    # Without O_CREAT: a file that is not there is a thing the kernel cannot do.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
