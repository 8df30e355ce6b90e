"""Sandboxes by the client that awaits: the same words."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.sandbox_server import KEY, Refusal, SandboxServer, Served, sandbox_server
from wellhead.client import AsyncClient
from wellhead.client.exec_streams import AsyncExecStream, ExecStream
from wellhead.client.sandbox_async_parts import AsyncFiles, AsyncProcesses
from wellhead.client.sandbox_parts import Files, Processes
from wellhead.client.sandboxes import AsyncSandbox, AsyncSandboxes, Sandbox, Sandboxes
from wellhead.client.terminals import AsyncTerminal, Terminal
from wellhead.errors import CommandTimeout, NotFound, SandboxState, StateError, Unavailable
from wellhead.model.visibility import Visibility


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with sandbox_server(tmp_path_factory.mktemp("sandboxes")) as served:
        yield served


@pytest.fixture
def server(served: Served) -> SandboxServer:
    return served[0]


@pytest.fixture
async def sandbox(served: Served) -> AsyncIterator[AsyncSandbox]:
    async with AsyncClient(f"https://localhost:{served[1]}", KEY, ca_file=served[2]) as client:
        async with await client.sandboxes.create() as sandbox:
            yield sandbox


@pytest.mark.parametrize(
    ("waits", "awaits"),
    [
        (Sandboxes, AsyncSandboxes),
        (Sandbox, AsyncSandbox),
        (Files, AsyncFiles),
        (Processes, AsyncProcesses),
        (ExecStream, AsyncExecStream),
        (Terminal, AsyncTerminal),
    ],
)
def test_both_have_the_same_words(waits: type, awaits: type) -> None:
    assert _words(waits) == _words(awaits)


def _words(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


async def test_a_sandboxs_life(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.exec("echo $A", env={"A": "b"})).text == "b\n"
    await sandbox.pause()
    with pytest.raises(SandboxState):
        await sandbox.exec("true")
    assert (await sandbox.resume()) == sandbox.info


async def test_ports(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.set_visibility("public", 8000)).visibility_of(8000) is Visibility.PUBLIC
    (port,) = await sandbox.ports()
    assert (port.port, port.visibility, port.url) == (8000, Visibility.PUBLIC, sandbox.url(8000))
    await sandbox.set_visibility("team")
    assert (sandbox.info.visibility, sandbox.info.port_visibility) == (Visibility.TEAM, {})
    assert (await sandbox.update(auto_resume=True)).auto_resume is True is sandbox.info.auto_resume
    first = await sandbox.share(8000)
    await sandbox.revoke_links()
    assert first.url != (await sandbox.share(8000)).url


async def test_commands(sandbox: AsyncSandbox) -> None:
    data = os.urandom(1_000_000)
    assert (await sandbox.exec(["cat"], stdin=data)).stdout == data
    with pytest.raises(CommandTimeout):
        await sandbox.exec("sleep 60", timeout_seconds=0.2)
    async with await sandbox.exec_stream(["cat"], stdin=True) as running:
        await running.send(b"one")
        await running.close_stdin()
        assert [piece.data async for piece in running] == [b"one"] and running.exit_code == 0
    async with await sandbox.exec_stream("exec sleep 60") as running:
        await running.signal("TERM")
        assert (await running.result()).signal == 15
    started = await sandbox.start("exec sleep 60", tag="job")
    async with await sandbox.processes.attach("job") as attached:
        await sandbox.processes.kill(started.pid)
        assert (await attached.result()).signal == 9


async def test_many_at_once(sandbox: AsyncSandbox) -> None:
    done = await asyncio.gather(*(sandbox.exec(["echo", str(number)]) for number in range(20)))
    assert [each.text for each in done] == [f"{number}\n" for number in range(20)]


async def test_files(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    await sandbox.files.write("/a/b.txt", "text")
    assert await sandbox.files.read_text("/a/b.txt") == "text"
    assert await sandbox.files.exists("/a") and not await sandbox.files.exists("/b")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_bytes(os.urandom(600_000))
    (tmp_path / "here" / "link").symlink_to("file")
    await sandbox.files.upload(tmp_path / "here", "/there")
    await sandbox.files.download("/there", tmp_path / "back")
    back = tmp_path / "back"
    assert (back / "file").read_bytes() == (tmp_path / "here" / "file").read_bytes()
    assert (back / "link").readlink() == Path("file")


async def test_a_lost_connection_costs_a_terminal_no_byte(
    sandbox: AsyncSandbox, server: SandboxServer
) -> None:
    async with await sandbox.terminal() as terminal:
        screen = server.screen(terminal.tag)
        told, seen = b"", b""
        for _ in range(3):
            told += (more := os.urandom(200_000))
            server.run(screen.write(more))
            seen += await terminal.read()
            server.run(server.cut())
            while len(seen) < len(told):
                seen += await terminal.read()
        await terminal.send(b"typed")
        await terminal.send(b"\x04")
        assert [piece async for piece in terminal][-1:] == [b"typed"]
        assert seen == told and terminal.exit_code == 7 and terminal.lost == 0


async def test_a_terminal_is_left_while_it_is_attached_anew(
    sandbox: AsyncSandbox, server: SandboxServer
) -> None:
    terminal = await sandbox.terminal(tag="mine")
    reading = asyncio.create_task(terminal.read())
    server.refusal = Refusal(503, "host_unavailable", "its host is away")
    server.run(server.cut())
    await asyncio.sleep(0)
    await terminal.detach()
    assert await _end(reading) == b""
    server.refusal = None
    with pytest.raises(StateError):
        await terminal.send(b"x")
    async with await sandbox.attach_terminal("mine") as again:
        assert again.lost == 0
    with pytest.raises(NotFound):
        await sandbox.attach_terminal("nobody")


async def _end(reading: asyncio.Task[bytes]) -> bytes:
    try:
        return await reading
    except Unavailable:  # it was tried once more before it was left
        return b""
