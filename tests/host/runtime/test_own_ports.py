"""Ports of sandboxes that share the machine's network: each sandbox's own, and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.sandbox_root import run_in
from wellhead.errors import HostNotFound, NothingListens
from wellhead.host.runtime.process import ProcessRuntime
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template
from wellhead.model.sandboxes import new_sandbox_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells whose a port is")

SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen()
open("port", "w").write(str(s.getsockname()[1]))
while True: c = s.accept()[0]; c.sendall(b"inside"); c.close()
"""


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(tmp_path)
    yield runtime
    for each in await ProcessRuntime(tmp_path).recover({}):
        await runtime.destroy(each.spec.id)


async def created(runtime: ProcessRuntime) -> Running:
    return await runtime.create(SandboxSpec(new_sandbox_id(), Template("minimal")))


async def serving_in(sandbox: Running, address: str, port: int = 0) -> int:
    """The port of a server in a sandbox, in a process that has left its parent."""
    home = Path(sandbox.spec.template.home)
    (home / "serve.py").write_text(SERVE)
    serve = f"{sys.executable} serve.py {address} {port} </dev/null >log 2>&1 &"
    wait = "until test -s port; do sleep 0.01; done; cat port"
    return int((await run_in(sandbox, "/bin/sh", "-c", f"{serve} {wait}")).output)


async def heard(runtime: ProcessRuntime, sandbox: Running, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(sock=await runtime.connect_port(sandbox.spec.id, port))
    try:
        return await reader.read()
    finally:
        writer.close()


@contextmanager
def listening_outside(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A service of the machine that no sandbox has."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_sandbox_is_reached_at_what_its_own_processes_listen_on(
    runtime: ProcessRuntime, address: str
) -> None:
    sandbox = await created(runtime)
    port = await serving_in(sandbox, address)
    for _ in range(2):
        assert await heard(runtime, sandbox, port) == b"inside"


async def test_nothing_else_of_the_machine_is_reached_through_a_sandbox(runtime: ProcessRuntime) -> None:
    sandbox, sibling = await created(runtime), await created(runtime)
    port = await serving_in(sandbox, "127.0.0.1")
    assert await heard(runtime, sandbox, port) == b"inside"
    with pytest.raises(NothingListens):
        await runtime.connect_port(sibling.spec.id, port)
    with listening_outside() as elsewhere, pytest.raises(NothingListens):
        await runtime.connect_port(sandbox.spec.id, elsewhere)
    with pytest.raises(HostNotFound):
        await runtime.connect_port(new_sandbox_id(), port)


async def test_a_port_that_the_sandbox_shares_with_another_program_is_not_its_own(
    runtime: ProcessRuntime,
) -> None:
    sandbox = await created(runtime)
    everywhere = await serving_in(sandbox, "0.0.0.0")
    assert await heard(runtime, sandbox, everywhere) == b"inside"
    with listening_outside(port=everywhere), pytest.raises(NothingListens):  # nearer than 0.0.0.0
        await runtime.connect_port(sandbox.spec.id, everywhere)
    with listening_outside("0.0.0.0", everywhere), pytest.raises(NothingListens):  # each gets a part of them
        await runtime.connect_port(sandbox.spec.id, everywhere)
    assert await heard(runtime, sandbox, everywhere) == b"inside"


async def test_who_listens_after_the_sandbox_stopped_is_not_taken_for_it(runtime: ProcessRuntime) -> None:
    sandbox = await created(runtime)
    port = await serving_in(sandbox, "127.0.0.1")
    assert await heard(runtime, sandbox, port) == b"inside"
    await runtime.destroy(sandbox.spec.id)
    again = await created(runtime)
    with listening_outside(port=port), pytest.raises(NothingListens):
        await runtime.connect_port(again.spec.id, port)
