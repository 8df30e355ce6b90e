"""Ports of real sandboxes, reached through the host as the edge asks for them. For root."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.kit.port_house import Door, PortHouse, listening, port_house
from tests.kit.sandbox_host import SandboxHost, needs_namespaces, sandbox_host
from tests.kit.upstreams import Peer, envelope, serving, visit
from wellhead.wire.streams import Reason, StreamKind

pytestmark = [needs_namespaces, pytest.mark.timeout(120)]

UPGRADE = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "X-Request-Id: 1")
HELLO = b"\x81\x82\0\0\0\0hi"  # a masked message, "hi"


@pytest.fixture
async def host() -> AsyncIterator[SandboxHost]:
    async with sandbox_host() as made:
        yield made


@pytest.fixture
async def house(host: SandboxHost) -> AsyncIterator[PortHouse]:
    async with port_house(host) as made:
        yield made


async def answering(peer: Peer) -> None:
    """Each request is answered with its own head; upgrades are granted."""
    while True:
        head = await peer.request()
        if b"Upgrade: websocket" in head:
            await peer.converse(head)
            return
        await peer.reply(head)


@pytest.mark.parametrize(
    ("address", "v6only"),
    [("127.0.0.1", True), ("0.0.0.0", True), ("::1", True), ("::", False), ("::", True), ("link", True)],
)
async def test_a_server_is_reached_whatever_it_listens_on(
    host: SandboxHost, house: PortHouse, address: str, v6only: bool
) -> None:
    sandbox = await host.create()
    house.add(sandbox)
    where = sandbox.address if address == "link" else address
    sock = listening(host, sandbox.spec.id, where, v6only=v6only)
    port = sock.getsockname()[1]
    async with serving(answering, sock=sock):
        for _ in range(3):
            visitor = await house.ask(sandbox.spec.id, port, target="/a%2Fb//?c").over()
            assert visitor.reason is None and visitor.status == 200
            assert visitor.body.startswith(b"GET /a%%2Fb//?c HTTP/1.1\r\nHost: localhost:%d\r\n" % port)
            assert b"Wellhead" not in visitor.body


async def test_a_websocket_is_carried(host: SandboxHost, house: PortHouse) -> None:
    sandbox = await host.create()
    house.add(sandbox)
    sock = listening(host, sandbox.spec.id)
    door = Door(house.ports, sandbox.spec.id, sock.getsockname()[1])
    async with serving(answering, sock=sock):
        visitor = visit(door, envelope("GET", "/", *UPGRADE), b"", False, kind=StreamKind.WEBSOCKET)
        await visitor.until(lambda v: bool(v.heads))
        visitor.stream.send(HELLO)
        await visitor.until(lambda v: len(v.body) >= 4)
        assert visitor.status == 101 and visitor.body == b"\x81\x02hi"


async def test_where_nothing_listens_the_edge_is_told_so(host: SandboxHost, house: PortHouse) -> None:
    sandbox = await host.create()
    house.add(sandbox)
    assert (await house.ask(sandbox.spec.id, 4000).over()).reason == Reason.UPSTREAM_UNREACHABLE
