"""The table of processes, their signals and their ends, in a real guest."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kit.guests import NAKED, Guest, guest_program, until_gone
from wellhead.guest.output import Output
from wellhead.guest.processes import ENDED_BYTES_MAX, Label, Process, Processes, ProcessKind
from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.spawn import Program, Starter, Streams
from wellhead.guest.tree import Tree
from wellhead.guest.users import User

IS_ROOT = os.geteuid() == 0


def _tags(guest: Guest) -> list[object]:
    return [each["tag"] for each in guest.listed()]


def test_a_process_is_listed_as_what_it_is(guest: Guest) -> None:
    began = time.time()
    started = guest.start("exec sleep 600", tag="listed")
    found = next(each for each in guest.listed() if each["tag"] == "listed")
    assert found["pid"] == started["pid"]
    assert found["argv"] == ["sh", "-c", "exec sleep 600"]
    assert found["kind"] == "background"
    assert found["user"] == psutil.Process().username()
    assert began - 5 < found["started_at"] < time.time() + 5
    guest.ask("signal", selector="listed", signal="KILL")
    until_gone(started["pid"])


def test_it_leaves_the_list_with_its_leader_whoever_holds_its_pipes(guest: Guest) -> None:
    started = guest.start("sleep 600 & exit 0", tag="left")
    until_gone(started["pid"])
    guest.ask("hello")  # by now the guest has heard of it
    assert "left" not in _tags(guest)
    with guest.call("attach", selector="left", after=0) as call:
        call.message()
        assert call.rest().exited["code"] == 0


def test_kill_reaches_children_in_sessions_of_their_own_and_those_without_parents(guest: Guest) -> None:
    script = "setsid sleep 601 & echo $!; setsid sh -c '(setsid sleep 602 & echo $!) & wait'; exec sleep 603"
    started = guest.start(script)
    with guest.call("attach", selector=started["tag"], after=0) as call:
        call.message()
        seen = b""
        while seen.count(b"\n") < 2:
            found = call.frame()
            assert found is not None
            seen += found[1]
        children = [int(pid) for pid in seen.split()]
        assert all(map(psutil.pid_exists, children))
        guest.ask("signal", selector=started["tag"], signal="KILL")
        assert call.rest().exited["signal"] == signal.SIGKILL
    for pid in [started["pid"], *children]:
        until_gone(pid)


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "term"])
def test_other_signals_go_to_the_leaders_group(guest: Guest, name: str) -> None:
    away = "setsid sh -c 'echo $$; exec sleep 600'"
    script = f"trap 'echo told; exit 5' TERM; {away} & while :; do sleep 0.01; done"
    started = guest.start(script)
    with guest.call("attach", selector=str(started["pid"]), after=0) as call:
        call.message()
        found = call.frame()
        assert found is not None
        guest.ask("signal", selector=started["tag"], signal=name)
        ran = call.rest()
    assert ran.out.endswith(b"told\n")
    assert ran.exited["code"] == 5
    os.kill(int(found[1]), signal.SIGKILL)  # it was not in the group


@pytest.mark.parametrize("name", ["NO", "", "9", "SIG", "KILL\n"])
def test_a_signal_that_there_is_not_is_refused(guest: Guest, name: str) -> None:
    assert guest.refuses("signal", selector="1", signal=name)[0] == "invalid"


@pytest.mark.parametrize("selector", ["no-such-tag", "1", "0", "-1", "99999999", "*"])
def test_nobody_is_not_found(guest: Guest, selector: str) -> None:
    for do, more in (("signal", {"signal": "KILL"}), ("attach", {})):
        code, message = guest.refuses(do, selector=selector, **more)
        assert code == "not_found"
        assert selector in message


def test_a_tag_is_one_living_process(guest: Guest) -> None:
    first = guest.start("exec sleep 600", tag="mine")
    assert guest.refuses("exec", argv=["true"], tag="mine")[0] == "exists"
    assert guest.refuses("terminal", argv=["true"], tag="mine", columns=80, rows=24)[0] == "exists"
    guest.ask("signal", selector="mine", signal="KILL")
    until_gone(first["pid"])
    second = guest.start("echo again; exit 3", tag="mine")
    until_gone(second["pid"])
    with guest.call("attach", selector="mine", after=0) as call:
        assert call.message()["attached"]["pid"] == second["pid"]
        assert call.rest().out == b"again\n"


def test_a_program_that_could_not_start_leaves_its_tag_free(guest: Guest) -> None:
    assert guest.refuses("exec", argv=["no-such"], tag="free", background=True)[0] == "not_found"
    until_gone(guest.start("true", tag="free")["pid"])


class _Paper(Starter):
    """Programs that have pids, and are not there."""

    def __init__(self) -> None:
        self.pid = 0

    async def start(
        self, program: Program, tree: Tree, streams: Streams, watch: Callable[[int], None]
    ) -> int:
        self.pid += 1
        watch(self.pid)
        return self.pid


async def _start(processes: Processes, tag: str | None = None) -> Process:
    user = User("me", 0, 0, (), "/", "/bin/sh")
    label = Label(ProcessKind.BACKGROUND, tag)
    return await processes.start(
        Program(["true"], {}, None, user), label, Streams(0, 1, 2), Output(100, ahead=100)
    )


async def test_more_processes_than_there_may_be_are_refused() -> None:
    processes = Processes(NAKED, _Paper(), most=2)
    await _start(processes, "one")
    await _start(processes, "two")
    with pytest.raises(Refusal) as refused:
        await _start(processes, "three")
    assert refused.value.word is Word.BUSY
    assert len(processes) == 2


async def test_what_ended_ones_wrote_is_kept_only_up_to_a_bound() -> None:
    processes = Processes(NAKED, _Paper())
    tags = [f"ended-{number}" for number in range(4)]
    for tag in tags:
        process = await _start(processes, tag)
        process.output = Output(ENDED_BYTES_MAX // 2, ahead=1)
        process.output.append(bytes(ENDED_BYTES_MAX // 2))
        processes.ended(process, 0)
    with pytest.raises(Refusal):
        processes.known(tags[1])
    assert [processes.known(tag).tag for tag in tags[2:]] == tags[2:]


def test_stop_ends_everything_also_what_ran_away() -> None:
    with guest_program() as guest:
        ran = guest.sh("(setsid sh -c 'sleep 600 & echo $!; exec sleep 601' & echo $!) ; sleep 0.1")
        pids = [int(pid) for pid in ran.out.split()]
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
    for pid in pids:
        until_gone(pid)


def test_sigterm_ends_it_likewise() -> None:
    with guest_program() as guest:
        started = guest.start("exec sleep 600")
        ended = os.pidfd_open(guest.pid)
        os.kill(guest.pid, signal.SIGTERM)
        until_gone(started["pid"])
        until_gone(guest.pid)
        os.close(ended)
        guest.over = True


def test_orphans_are_reaped() -> None:
    with guest_program() as guest:
        orphan = int(guest.sh("(sh -c 'echo $$; exec >&- 2>&-; sleep 0.1' &)").out)
        until_gone(orphan)
        while psutil.pid_exists(orphan):  # dead: until it is reaped as well
            guest.ask("hello")


@pytest.mark.skipif(not IS_ROOT, reason="needs root: for a pid namespace")
def test_as_first_process_it_reaps_every_orphan_and_takes_its_sandbox_along() -> None:
    before = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with guest_program(before=before) as guest:
        assert guest.ask("hello")["pid"] == 1
        inner = psutil.Process(guest.pid).children()[0]
        guest.sh("for i in 1 2 3 4 5; do setsid sh -c 'sleep 0.05 & exit' & done; exit 0")
        survivor = guest.start("setsid sleep 600 & sleep 600")
        assert guest.sh("kill -9 -1; exit 6").exited["code"] == 6  # all but the first, and itself
        while inner.children(recursive=True):
            guest.ask("hello")
        with guest.call("attach", selector=survivor["tag"]) as call:
            call.message()
            assert call.rest().exited["signal"] == signal.SIGKILL
        guest.sh("kill -TERM 1; kill -INT 1; kill -HUP 1; kill -STOP 1; kill -KILL 1")
        assert guest.ask("hello")["pid"] == 1


def _cgroups() -> str | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        kind, place = line.split()[2], line.split()[1]
        if kind == "cgroup2":
            return place
    return None


@pytest.mark.skipif(not IS_ROOT or _cgroups() is None, reason="needs root and cgroup v2: to make cgroups")
def test_with_a_cgroup_nobody_gets_away_and_nothing_is_left() -> None:
    place = f"{_cgroups()}/wellhead-test-{os.getpid()}"
    os.mkdir(place)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        terms = type(NAKED)(user="root", chrooted=False, isolated=False, cgroup=fd)
        with guest_program(terms, pass_fds=[fd]) as guest:
            script = "env -i setsid sh -c '(env -i setsid sleep 600 & echo $!) & sleep 601'; sleep 602"
            with guest.call("exec", argv=["sh", "-c", f"({script}) & sleep 603"], tag="tree") as call:
                call.message()
                found = call.frame()
                assert found is not None
                stray = int(found[1])
                assert len([name for name in os.listdir(place) if name.startswith("tree-")]) == 1
                guest.ask("signal", selector="tree", signal="KILL")
                assert call.rest().exited["signal"] == signal.SIGKILL
            until_gone(stray)
            assert "WELLHEAD_TREE" not in guest.run("env").out.decode()
            guest.run("true")
            while any(name.startswith("tree-") for name in os.listdir(place)):
                guest.run("true")
    finally:
        os.close(fd)
        subprocess.run(["rmdir", place], check=True)
