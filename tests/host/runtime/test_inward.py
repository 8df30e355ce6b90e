"""Connections into sandboxes of namespaces, one by one. For root."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator

import pytest

from tests.kit.port_house import listening
from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host
from wellhead.errors import DialError, HostError, NothingListens
from wellhead.host.runtime.inward import Inward
from wellhead.model.sandboxes import new_sandbox_id

pytestmark = [needs_namespaces, pytest.mark.timeout(120)]


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as made:
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_connection_is_the_sandboxs_own_and_what_is_held_for_it_goes_with_it(
    host: SandboxHost,
) -> None:
    before = descriptors()
    sandbox = await host.create()
    for address in ("127.0.0.1", "::1", sandbox.address):
        with listening(host, sandbox.spec.id, address) as server:
            port = server.getsockname()[1]
            found = await asyncio.gather(
                *(host.runtime.connect_port(sandbox.spec.id, port) for _ in range(20))
            )
            for sock in found:
                assert not sock.getblocking() and sock.getpeername()[1] == port
                accepted, _ = server.accept()
                with accepted, sock:
                    assert accepted.getpeername()[1] == sock.getsockname()[1]
        with pytest.raises(NothingListens, match=f"port {port} "):
            await host.runtime.connect_port(sandbox.spec.id, port)
    await host.runtime.destroy(sandbox.spec.id)
    assert descriptors() == before


async def test_this_program_is_in_its_own_network_after_it_was_in_a_sandbox(host: SandboxHost) -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    sandbox = await host.create()
    with pytest.raises(NothingListens):
        await host.runtime.connect_port(sandbox.spec.id, 4000)
    assert os.readlink("/proc/thread-self/ns/net") == home


async def test_a_sandbox_that_has_died_is_not_entered_though_another_process_has_its_number(
    host: SandboxHost,
) -> None:
    sandbox, before = await host.create(), descriptors()
    kept = host.kept.get(sandbox.spec.id)
    inward = Inward()
    with listening(host, sandbox.spec.id, "::1") as server:
        port = server.getsockname()[1]
        stranger = dataclasses.replace(kept, pid=os.getpid())
        with pytest.raises(HostError, match="has ended"):
            await inward.connect(stranger, port)
        (await inward.connect(kept, port)).close()
    inward.close()
    assert descriptors() == before


async def test_a_dead_sandbox_and_one_of_another_host_are_not_reached(host: SandboxHost) -> None:
    sandbox = await host.create()
    with pytest.raises(HostError):
        await host.runtime.connect_port(new_sandbox_id(), 80)
    os.kill(host.kept.get(sandbox.spec.id).pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while await host.runtime.is_alive(sandbox.spec.id):
            pass
    for _ in range(20):  # its link goes a moment later
        with pytest.raises((HostError, DialError)):
            await host.runtime.connect_port(sandbox.spec.id, 80)
