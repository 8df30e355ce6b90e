from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from wellhead.host.runtime import processes

# A child, and one in a session of its own.
SCATTERED = "sleep 60 & setsid sleep 60 & echo started; wait"
FORKING = """
import os, time
print('started', flush=True)
while os.fork():
    time.sleep(0.002)
time.sleep(1)
"""
MARK = "cl-tree"


@pytest.fixture(params=["proc", "ps"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(processes, "_HAS_PROC", request.param == "proc" and processes._HAS_PROC)
    return str(request.param)


@contextlib.contextmanager
def _program(script: str) -> Iterator[int]:
    environment = {**os.environ, processes.MARK: MARK}
    with subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"started\n"
        try:
            yield program.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program.pid, signal.SIGCONT)
                os.kill(program.pid, signal.SIGKILL)
            program.stdout.close()


def test_a_process_is_told_from_a_later_one_with_its_number(source: str) -> None:
    mine = processes.born(os.getpid())
    assert mine
    assert processes.born(os.getpid()) == mine
    assert processes.born(2**22 + 1) is None


def test_what_has_ended_was_not_born() -> None:
    with subprocess.Popen(["true"]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # it ended, and is not asked for yet
        assert processes.born(program.pid) is None


def test_a_tree_stops_goes_on_and_is_killed(source: str) -> None:
    with _program("sleep 60 & sleep 61 & echo started; wait") as root:
        assert len(processes.tree(root, MARK)) == 3
        assert processes.stop_tree(root, MARK) == []
        assert all(each.is_stopped for each in processes.tree(root, MARK).values())
        processes.continue_tree(root, MARK)
        assert not any(each.is_stopped for each in processes.tree(root, MARK).values())
        processes.stop_tree(root, MARK)
        processes.kill_tree(root, MARK)
        assert processes.tree(root, MARK) == {}


def test_what_was_stopped_before_stays_so() -> None:
    with _program("sleep 60 & kill -STOP $!; echo started; wait") as root:
        stopped = processes.stop_tree(root, MARK)
        assert len(stopped) == 1
        processes.continue_tree(root, MARK, but=stopped)
        there = processes.tree(root, MARK)
        assert [pid for pid, each in there.items() if each.is_stopped] == stopped
        processes.kill_tree(root, MARK)


@pytest.mark.skipif(not processes._HAS_PROC, reason="the environment of processes is read from /proc")
def test_what_outlives_its_root_belongs_to_the_tree() -> None:
    with _program(SCATTERED) as root:
        os.kill(root, signal.SIGKILL)
        os.waitid(os.P_PID, root, os.WEXITED | os.WNOWAIT)
        assert len(processes.tree(root, MARK)) >= 2
        processes.kill_tree(root, MARK)
        assert processes.tree(root, MARK) == {}


def test_a_tree_that_forks_all_the_time_is_killed() -> None:
    with _program(f'exec "{sys.executable}" -c "{FORKING}"') as root:
        processes.kill_tree(root, MARK)
        assert processes.tree(root, MARK) == {}


@pytest.mark.parametrize(
    ("clock", "seconds"), [("0:01.50", 1.5), ("01:02:03", 3723), ("2-00:00:01", 172801), ("?", 0)]
)
def test_the_clock_of_ps_is_read(clock: str, seconds: float) -> None:
    assert processes._seconds(clock) == seconds
