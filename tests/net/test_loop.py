from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
import uvloop

from wellhead.net import loop as net_loop


def program(body: str) -> subprocess.Popen[str]:
    code = "import asyncio, sys\nfrom wellhead.net import loop as net_loop\n" + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


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
