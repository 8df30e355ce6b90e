from __future__ import annotations

import asyncio
import os
import pty
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import uvloop

from wellhead.net import loop as net_loop


def program(body: str, terminal: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A program in a session of its own, whose standard input is ``terminal``."""
    code = "import asyncio, sys\nfrom wellhead.net import loop as net_loop\n" + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_run_gives_the_result_on_uvloop() -> None:
    async def main() -> tuple[int, bool]:
        return 7, isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert net_loop.run(main()) == (7, True)


def test_run_works_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert net_loop.run(main()).startswith("asyncio.")


def test_the_soft_limit_of_files_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert net_loop.file_limit() == 256
        assert net_loop.raise_file_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


WAITS = """
    async def main():
        stop = net_loop.stop_event(asyncio.get_running_loop())
        print("up", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        {then}
    net_loop.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_for_an_end(number: signal.Signals) -> None:
    with program(WAITS.format(then="")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopping\n"
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_a_program_that_is_stuck(number: signal.Signals) -> None:
    with program(WAITS.format(then="\n        while True: pass")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(number)
        assert process.wait(timeout=10) == -number


async def _two_steps(order: list[str], waits_for: asyncio.Future[str]) -> str:
    order.append("first")
    try:
        word = await waits_for
    except asyncio.CancelledError:
        order.append("cancelled")
        raise
    finally:
        order.append("end")
    return word


async def test_a_task_that_is_begun_has_done_its_first_step_and_goes_on_as_any_other() -> None:
    order: list[str] = []
    waits_for: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = net_loop.begin(asyncio.get_running_loop(), _two_steps(order, waits_for), name="two")
    assert order == ["first"] and task.get_name() == "two"
    waits_for.set_result("word")
    assert await task == "word"
    failing = net_loop.begin(asyncio.get_running_loop(), _two_steps(order, asyncio.Future()))
    await asyncio.sleep(0)
    failing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await failing
    assert order[2:] == ["first", "cancelled", "end"]


async def test_what_a_first_step_gives_or_raises_is_the_tasks() -> None:
    async def gives() -> int:
        return 7

    async def fails() -> int:
        raise ValueError("at once")

    loop = asyncio.get_running_loop()
    assert await net_loop.begin(loop, gives()) == 7
    with pytest.raises(ValueError, match="at once"):
        await net_loop.begin(loop, fails())


async def test_a_task_cancelled_before_its_second_step_ends_its_coroutine() -> None:
    order: list[str] = []
    task = net_loop.begin(asyncio.get_running_loop(), _two_steps(order, asyncio.Future()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert order == ["first", "end"]


@pytest.mark.parametrize(
    ("ours", "files", "limit"),
    [
        ("0::/system.slice/wellhead.service", {"system.slice/wellhead.service/memory.max": "1000"}, 1000),
        ("0::/system.slice/wellhead.service", {"system.slice/memory.max": "2000"}, 2000),
        ("0::/a/b", {"a/memory.max": "max", "a/b/memory.max": "3000", "memory.max": "4000"}, 3000),
        ("9:cpu:/x\n3:memory:/tight", {"memory/tight/memory.limit_in_bytes": "5000"}, 5000),
        ("0::/unseen/in/here", {"memory.max": "6000"}, 6000),
        ("", {"memory/memory.limit_in_bytes": "7000"}, 7000),
    ],
)
def test_the_memory_of_the_group_that_we_are_in_is_ours(
    tmp_path: Path, ours: str, files: dict[str, str], limit: int
) -> None:
    for name, text in {
        "proc/self/cgroup": ours,
        **{f"sys/fs/cgroup/{n}": t for n, t in files.items()},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert net_loop.memory_limit(tmp_path) == limit


def test_without_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert net_loop.memory_limit(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


HEEDS_HANGUP = """
    import fcntl, termios
    if sys.stdin.isatty():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # be the terminal's program
    async def main():
        running = asyncio.get_running_loop()
        stop = net_loop.stop_event(running)
        net_loop.on_hangup(running, lambda: print("reloading", flush=True), stop)
        print("up", flush=True)
        await stop.wait()
        print("stopping", flush=True)
    net_loop.run(main())
"""


def test_a_hangup_reloads_a_program_without_a_terminal() -> None:
    with program(HEEDS_HANGUP) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "reloading\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopping\n"


def test_a_hangup_ends_a_program_whose_terminal_is_gone_and_reloads_it_before() -> None:
    ours, theirs = pty.openpty()
    with program(HEEDS_HANGUP, theirs) as process:
        os.close(theirs)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "reloading\n"
        os.close(ours)  # the kernel says it to whoever the terminal belonged to
        assert process.stdout.read() == "stopping\n"
        assert process.wait(timeout=10) == 0
