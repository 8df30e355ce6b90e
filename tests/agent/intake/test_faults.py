"""What other agents of this carrier do wrong to an application or its visitors, done right; bytes on sockets.

Source: shared specifications' lists of observed defects: cookie jars, decoded bodies, invented framing.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.kit.scripted_edge import Line, ScriptedEdge, scripted_edge
from tests.kit.watched import PATIENCE
from wellhead.agent.intake.carrier import IntakeCarrier
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.net.authority import LocalAuthority
from wellhead.net.uplink import Uplink
from wellhead.net.upstream import UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.wire.intake import API_KEY, Caller

BOTH_LOOPS = True
BODY = gzip.compress(b"compressed by the application")
REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Encoding: gzip\r\nSet-Cookie: sid=1; Path=/\r\n"
    b"Set-Cookie: theme=dark\r\nLocation: /elsewhere\r\n\r\n%b" % (len(BODY), BODY)
)


class App(asyncio.Protocol):
    """Answers every request with the same bytes, and keeps its head."""

    def __init__(self, heads: list[bytes]) -> None:
        self._heads = heads
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            self._heads.append(head + b"\r\n")
            self._write(REPLY)


class Scene:
    def __init__(self, edge: ScriptedEdge, heads: list[bytes]) -> None:
        self.edge = edge
        self.heads = heads

    async def ask(self, line: Line, request_id: str, *fields: tuple[bytes, bytes]) -> bytes:
        """The head that the application saw."""
        seen = len(self.heads)
        await line.deliver(request_id, (b"inkbox-path", b"/"), *fields)
        await line.reply_to(request_id)
        (head,) = self.heads[seen:]
        return head


@pytest.fixture
async def scene(ca: LocalAuthority) -> AsyncIterator[Scene]:
    loop = asyncio.get_running_loop()
    heads: list[bytes] = []
    app = await loop.create_server(lambda: App(heads), "127.0.0.1", 0)
    async with scripted_edge(ca) as edge:
        assert edge.address is not None
        pool = UpstreamPool(parse_upstream(app.sockets[0].getsockname()[1], "auto"))
        caller = Caller(b"localhost", b"4b6c", (API_KEY, b"ApiKey_1"))
        carrier = IntakeCarrier(caller, b"my-agent.example", IntakeLimits(), pool.accept)
        uplink = Uplink(edge.address, [carrier], on_status=lambda *_: None, on_welcome=lambda welcome: None)
        running = loop.create_task(uplink.run())
        yield Scene(edge, heads)
        await uplink.aclose()
        await asyncio.wait_for(running, PATIENCE)
        await pool.aclose()
    app.close()


async def test_a_cookie_given_to_one_visitor_is_not_shown_for_another(scene: Scene) -> None:
    line = await scene.edge.line()
    await scene.ask(line, "req-1")
    head = await scene.ask(line, "req-2")
    assert b"cookie" not in head.lower()


async def test_a_compressed_reply_is_passed_on_as_it_is(scene: Scene) -> None:
    line = await scene.edge.line()
    await scene.ask(line, "req-1", (b"inkbox-h-accept-encoding", b"gzip"))
    reply = line.replies["req-1"]
    assert reply.get(b"inkbox-h-content-encoding") == "gzip"
    assert bytes(reply.body) == BODY
    assert reply.all(b"inkbox-h-set-cookie") == ["sid=1; Path=/", "theme=dark"]
    assert reply.get(b"x-api-key") == "ApiKey_1"


async def test_nothing_is_added_to_a_request_but_what_tells_of_its_visitor(scene: Scene) -> None:
    line = await scene.edge.line()
    head = await scene.ask(line, "req-1", (b"inkbox-forwarded-for", b"2001:db8::1"))
    names = [row.partition(b":")[0].lower() for row in head.split(b"\r\n")[1:-1]]
    assert sorted(names) == [
        b"forwarded", b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-request-id",
    ]  # fmt: skip
    assert b'Forwarded: for="[2001:db8::1]"' in head


async def test_a_redirect_is_not_followed(scene: Scene) -> None:
    line = await scene.edge.line()
    await scene.ask(line, "req-1")
    assert line.replies["req-1"].get(b"inkbox-h-location") == "/elsewhere"
    assert len(scene.heads) == 1


async def test_fields_of_one_hop_and_forged_ones_do_not_reach_the_application(scene: Scene) -> None:
    line = await scene.edge.line()
    head = await scene.ask(
        line, "req-1", (b"inkbox-forwarded-for", b"203.0.113.9"), (b"inkbox-h-keep-alive", b"5"),
        (b"inkbox-h-proxy-authorization", b"x"), (b"inkbox-h-x-forwarded-for", b"10.0.0.1"),
        (b"inkbox-h-forwarded", b"for=10.0.0.1"), (b"inkbox-h-x-forwarded-host", b"evil"),
        (b"inkbox-h-te", b"gzip"), (b"inkbox-h-x-blanks", b" around "),
    )  # fmt: skip
    for gone in (b"keep-alive", b"proxy-authorization", b"10.0.0.1", b"evil", b"te: gzip"):
        assert gone not in head.lower()
    assert b"x-blanks: around\r\n" in head
    assert b"X-Forwarded-For: 203.0.113.9\r\n" in head


async def test_several_cookie_fields_are_one_for_the_application(scene: Scene) -> None:
    line = await scene.edge.line()
    head = await scene.ask(line, "req-1", (b"inkbox-h-cookie", b"a=1"), (b"inkbox-h-cookie", b"b=2"))
    rows = [row for row in head.split(b"\r\n") if row.lower().startswith(b"cookie:")]
    assert [row.partition(b": ")[2] for row in rows] == [b"a=1; b=2"]
