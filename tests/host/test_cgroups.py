"""Control groups of either version hold what was asked, freeze and kill."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.sandbox_host import needs_namespaces
from wellhead.errors import HostError
from wellhead.host.cgroups import Cgroups, Hierarchies, Limits

MOUNTS = """\
24 29 0:21 / /proc rw,relatime - proc proc rw
30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
34 25 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
35 25 0:31 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,name=systemd
"""
LIMITS = Limits(vcpus=1.5, memory_bytes=256 << 20, pids=64)


class Tree:
    """Directories and files as the kernel shows them; a group gets its files when it is made."""

    def __init__(self, place: Path, *files: str) -> None:
        self.place, self._files = place, files
        self.fill(place)

    def fill(self, group: Path) -> None:
        group.mkdir(parents=True, exist_ok=True)
        for name in self._files:
            (group / name).touch()


V2_FILES = (
    "cgroup.procs", "cgroup.subtree_control", "cgroup.freeze", "cgroup.events", "cgroup.kill", "memory.max",
    "memory.swap.max", "cpu.max", "pids.max", "pids.current", "memory.current", "memory.stat", "cpu.stat",
)  # fmt: skip


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A tree of version 2 with a sandbox's groups as the kernel would make them."""
    tree = Tree(tmp_path, *V2_FILES)
    for name in ("wellhead", "wellhead/cl-1", "wellhead/cl-1/guest"):
        tree.fill(tmp_path / name)
    for group in (tmp_path, tmp_path / "wellhead"):
        (group / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (group / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_hierarchies_are_found_by_what_is_mounted() -> None:
    found = Hierarchies.found(MOUNTS)
    assert found.unified == Path("/sys/fs/cgroup/unified")
    assert found.of == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Path("/sys/fs/cgroup/memory"),
    }


def test_version_2_gets_limits_and_gives_the_guest_a_group_of_its_own(unified: Path) -> None:
    groups = Cgroups(Hierarchies(unified, {}))
    assert groups.start() == []
    made = groups.make("cl-1", LIMITS, os.getuid())
    place = unified / "wellhead" / "cl-1"
    assert made.joined == [str(place / "guest" / "cgroup.procs")]
    assert made.delegated == str(place / "guest")
    limits = {
        name: (place / name).read_text() for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    }
    assert limits == {
        "memory.max": str(256 << 20), "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "64",
    }  # fmt: skip
    assert (
        place / "guest" / "pids.max"
    ).read_text() == ""  # the sandbox's limits are not the guest's to write


def test_version_2_says_what_a_group_takes(unified: Path) -> None:
    groups = Cgroups(Hierarchies(unified, {}))
    place = unified / "wellhead" / "cl-1"
    (place / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (place / "memory.current").write_text("1000000\n")
    (place / "memory.stat").write_text("anon 5\ninactive_file 400000\n")
    (place / "pids.current").write_text("7\n")
    taken = groups.taken("cl-1")
    assert (taken.cpu_seconds, taken.memory_bytes, taken.pids) == (2.5, 600000, 7)


def test_version_2_freezes_and_says_so(unified: Path) -> None:
    groups = Cgroups(Hierarchies(unified, {}))
    place = unified / "wellhead" / "cl-1"
    (place / "cgroup.freeze").write_text("0")
    assert not groups.is_frozen("cl-1")
    (place / "cgroup.freeze").write_text("1\n")
    assert groups.is_frozen("cl-1")


def test_what_is_not_limited_is_told_in_sentences(unified: Path) -> None:
    for group in (unified, unified / "wellhead"):
        (group / "cgroup.controllers").write_text("cpu\n")
        (group / "cgroup.subtree_control").write_text("cpu\n")
    told = Cgroups(Hierarchies(unified, {})).start()
    assert [sentence.split()[4] for sentence in told] == ["memory", "pids"]
    assert told[0].endswith("memory of a sandbox is not limited")


def test_a_machine_without_control_groups_is_refused() -> None:
    with pytest.raises(HostError, match="no control groups are mounted"):
        Cgroups(Hierarchies(None, {})).start()


@contextlib.contextmanager
def _real(hierarchies: Hierarchies) -> Iterator[tuple[Cgroups, str, subprocess.Popen[bytes]]]:
    """Groups of the machine, and a process in one."""
    groups, name = Cgroups(hierarchies), f"test-{os.getpid()}"
    groups.start()
    made = groups.make(name, LIMITS, 0)
    program = subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
    try:
        for path in made.joined:
            Path(path).write_text(str(program.pid))
        yield groups, name, program
    finally:
        groups.kill(name)
        program.kill()
        program.wait()
        groups.free(name)
        assert not any((place / "wellhead" / name).exists() for place in hierarchies.of.values())


def _hierarchies() -> list[Hierarchies]:
    """Both versions as they are here, and each alone where it can freeze."""
    found = Hierarchies.found(Path("/proc/self/mountinfo").read_text())
    kinds = [found]
    if "freezer" in found.of and found.unified is not None:
        kinds += [Hierarchies(None, found.of), Hierarchies(found.unified, {})]
    return kinds


@needs_namespaces
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_frozen_process_stands_still_goes_on_and_is_killed_frozen(which: int) -> None:
    if which >= len(_hierarchies()):
        pytest.skip("this machine has one version of control groups only")
    with _real(_hierarchies()[which]) as (groups, name, program):
        groups.freeze(name)
        assert groups.is_frozen(name)
        before = _ticks(program.pid)
        assert _ticks(program.pid) == before
        groups.thaw(name)
        assert not groups.is_frozen(name)
        groups.freeze(name)
        groups.kill(name)
        assert program.wait(5) == -9


@needs_namespaces
def test_limits_are_the_kernels() -> None:
    found = _hierarchies()[0]
    with _real(found) as (groups, name, _):
        assert groups.taken(name).pids == 1
        if "memory" in found.of:
            assert (
                found.of["memory"] / "wellhead" / name / "memory.limit_in_bytes"
            ).read_text() == f"{256 << 20}\n"
        if "cpu" in found.of:
            assert (found.of["cpu"] / "wellhead" / name / "cpu.cfs_quota_us").read_text() == "150000\n"
        if "pids" in found.of:
            assert (found.of["pids"] / "wellhead" / name / "pids.max").read_text() == "64\n"


def _ticks(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
