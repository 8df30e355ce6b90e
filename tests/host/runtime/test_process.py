"""Sandboxes without isolation, with the guest as it is."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wellhead.errors import HostConflict, HostError, HostNotFound
from wellhead.host.runtime import process, processes
from wellhead.host.runtime.hello import hello
from wellhead.host.runtime.process import WARNING, ProcessRuntime
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template
from wellhead.model.sandboxes import SandboxId, new_sandbox_id
from wellhead.wire.guest import GuestFrame, GuestFrames, message, read_message


async def _exec(running: Running, *argv: str, background: bool = False) -> str:
    """What a program in the sandbox wrote; nothing is waited for where it is in the background."""
    reader, writer = await asyncio.open_unix_connection(running.guest_socket)
    asked = {"do": "exec", "argv": list(argv), "env": {}, "background": background, "stdin": False}
    writer.write(message(asked))
    frames, output = GuestFrames(), b""
    try:
        async with asyncio.timeout(30):
            while data := await reader.read(65536):
                for kind, payload in frames.receive(data):
                    if kind in (GuestFrame.OUTPUT, GuestFrame.ERRORS):
                        output += payload
                    elif "exited" in (said := read_message(payload)) or "error" in said:
                        return output.decode() + str(said.get("error", ""))
        return output.decode()
    finally:
        writer.transport.abort()


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(tmp_path)
    yield runtime
    for each in await ProcessRuntime(tmp_path).recover({}):
        await runtime.destroy(each.spec.id)


def _spec(**template: object) -> SandboxSpec:
    return SandboxSpec(new_sandbox_id(), Template("minimal", **template))  # type: ignore[arg-type]


async def test_a_sandbox_runs_programs_in_a_home_of_its_own(runtime: ProcessRuntime, tmp_path: Path) -> None:
    running = await runtime.create(_spec(env={"GREETING": "hi"}))
    home = tmp_path / "sandboxes" / running.spec.id / "home"
    said = await _exec(running, "sh", "-c", "pwd; echo $HOME; echo $GREETING; umask > made")
    assert said.split() == [str(home), str(home), "hi"]
    assert running.spec.template.home == str(home)
    assert (home / "made").exists()
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


async def test_nothing_of_our_environment_gets_into_a_sandbox(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLHEAD_ADMIN_KEY", "wh_secret")
    running = await runtime.create(_spec())
    assert "wh_secret" not in await _exec(running, "env")
    root = runtime._kept.get(running.spec.id).pid
    assert b"wh_secret" not in _environment(root)


async def test_it_says_that_nothing_is_isolated(
    runtime: ProcessRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    assert await runtime.start() == [WARNING]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_sandbox_survives_its_host_and_is_found_again(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    running = await runtime.create(_spec())
    await _exec(running, "sh", "-c", "echo kept > file")
    await runtime.close()
    another = ProcessRuntime(tmp_path)
    (found,) = await another.recover({})
    assert (found.spec.id, found.guest_socket, found.paused) == (
        running.spec.id, running.guest_socket, False,
    )  # fmt: skip
    assert await _exec(found, "cat", "file") == "kept\n"
    await another.destroy(found.spec.id)


async def test_of_a_sandbox_that_died_nothing_is_left(runtime: ProcessRuntime, tmp_path: Path) -> None:
    running = await runtime.create(_spec())
    await _exec(running, "sh", "-c", "setsid sleep 1000", background=True)
    root = runtime._kept.get(running.spec.id).pid
    _kill(root)
    assert not await runtime.is_alive(running.spec.id)
    assert await ProcessRuntime(tmp_path).recover({}) == []
    assert processes.tree(-1, running.spec.id) == {}
    assert os.listdir(tmp_path / "sandboxes") == []


async def test_a_paused_sandbox_stands_still_also_for_the_next_host(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    running = await runtime.create(_spec())
    sandbox = running.spec.id
    await _exec(running, "sleep", "1000", background=True)
    await runtime.pause(sandbox)
    await runtime.pause(sandbox)
    root = runtime._kept.get(sandbox).pid
    tree = processes.tree(root, sandbox)
    assert len(tree) >= 2 and all(each.is_stopped for each in tree.values())
    another = ProcessRuntime(tmp_path)
    assert [each.paused for each in await another.recover({})] == [True]
    await another.resume(sandbox)
    assert await _exec(running, "echo", "on") == "on\n"


async def test_destroying_kills_the_whole_tree_paused_or_not(runtime: ProcessRuntime, tmp_path: Path) -> None:
    running = await runtime.create(_spec())
    sandbox = running.spec.id
    await _exec(running, "sh", "-c", "setsid sleep 1000 & setsid sleep 1001 & wait", background=True)
    await runtime.pause(sandbox)
    await runtime.destroy(sandbox)
    assert processes.tree(-1, sandbox) == {}
    assert os.listdir(tmp_path / "sandboxes") == []
    assert not running.guest_socket.exists()
    await runtime.destroy(sandbox)


async def test_what_a_sandbox_takes_is_told(runtime: ProcessRuntime) -> None:
    running = await runtime.create(_spec())
    await _exec(running, "sh", "-c", "head -c 300000 /dev/zero > zeros; sync zeros")
    usage = await runtime.usage(running.spec.id)
    assert usage.cpu_seconds > 0
    assert usage.memory_bytes > 1_000_000
    assert usage.disk_bytes >= 300_000
    assert usage.pids >= 1


async def test_a_snapshot_is_the_home_and_another_sandbox_begins_with_it(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    running = await runtime.create(_spec())
    await _exec(running, "sh", "-c", "mkdir d && echo kept > d/file && ln -s file d/link && mkfifo d/pipe")
    layer = tmp_path / "staging" / "x"
    await runtime.snapshot(running.spec.id, layer)
    assert await _exec(running, "echo", "goes on") == "goes on\n"
    second = await runtime.create(_spec(layers=[layer]))
    assert await _exec(second, "sh", "-c", "cat d/link; ls d") == "kept\nfile\nlink\n"


async def test_a_sandbox_is_made_once(runtime: ProcessRuntime) -> None:
    running = await runtime.create(_spec())
    with pytest.raises(HostConflict, match="there already"):
        await runtime.create(SandboxSpec(running.spec.id, Template("minimal")))
    assert await _exec(running, "echo", "on") == "on\n"


async def test_where_a_guest_does_not_answer_nothing_is_left(
    runtime: ProcessRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "HELLO_SECONDS", 0.0)
    spec = _spec()
    with pytest.raises(HostError, match="did not answer within 0 s"):
        await runtime.create(spec)
    assert os.listdir(tmp_path / "sandboxes") == []
    assert processes.tree(-1, spec.id) == {}


async def test_a_creation_that_is_given_up_leaves_nothing(runtime: ProcessRuntime, tmp_path: Path) -> None:
    spec = _spec()
    making = asyncio.ensure_future(runtime.create(spec))
    await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert os.listdir(tmp_path / "sandboxes") == []
    assert processes.tree(-1, spec.id) == {}


async def test_an_unknown_sandbox_is_not_found(runtime: ProcessRuntime) -> None:
    unknown: SandboxId = new_sandbox_id()
    assert not await runtime.is_alive(unknown)
    for call in (runtime.pause, runtime.resume, runtime.usage):
        with pytest.raises(HostNotFound, match=unknown):
            await call(unknown)


async def test_a_socket_that_is_no_guests_is_told(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(message({"error": {"code": "busy", "message": "later"}}))
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "socket"):
        with pytest.raises(HostError, match="later"):
            await hello(tmp_path / "socket", 5)
