"""Trees of processes, where there are no cgroups."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.kit.guests import until_gone
from wellhead.guest.tree import MARK, Tree, kill_descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc: to find who belongs together")


@contextmanager
def _shell(script: str, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A shell script and the number it prints."""
    process = subprocess.Popen(
        ["sh", "-c", script], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_who_carries_the_mark_belongs_to_it_whoever_the_parent_is() -> None:
    tree, other = Tree(None), Tree(None)
    path = {"PATH": "/usr/bin:/bin"}
    script = "(setsid sleep 600 >&- & echo $!)"
    with ExitStack() as stack:
        _, mine = stack.enter_context(_shell(script, {**path, **tree.env}))
        _, theirs = stack.enter_context(_shell(script, {**path, **other.env}))
        tree.kill()
        until_gone(mine)
        assert psutil.pid_exists(theirs)
        other.kill()
        until_gone(theirs)


def test_who_comes_of_the_leader_belongs_to_it_without_a_mark() -> None:
    tree = Tree(None)
    script = "env -i setsid sleep 600 >&- & echo $!; wait"
    with _shell(script, {"PATH": "/usr/bin:/bin", **tree.env}) as (process, child):
        tree.leader = process.pid
        tree.kill()
        until_gone(child)
        assert process.wait(60) == -9


def test_all_descendants_die_and_their_root_lives() -> None:
    with _shell("(setsid sh -c 'sleep 600 >&- & wait' >&- &) ; sleep 600 >&- & echo $!; wait") as (
        process,
        child,
    ):
        kill_descendants(process.pid)
        until_gone(child)
        assert process.wait(60) == 0  # it was waiting for them, and went on


def test_a_mark_is_nobody_elses() -> None:
    assert Tree(None).env[MARK] != Tree(None).env[MARK]
    assert Tree(None).release()
