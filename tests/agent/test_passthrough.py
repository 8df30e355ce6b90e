"""The agent as the house of its tunnel's visitors: real TLS and a real upstream, and no edge between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.certs import handshake, shown
from tests.kit.h2_upstream import answering, serving_h2
from tests.kit.signing import NAME, Signer, now
from tests.kit.tls_visitor import TlsVisitor, soon
from tests.kit.upstreams import Handler, Peer, Server, free_port, serving
from wellhead.agent.certificate import CertificateFiles
from wellhead.agent.passthrough import ALPN, Passthrough, PassthroughTerms
from wellhead.net.keypair import KeyPair
from wellhead.net.upstream import Exchange, UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.wire.facts import Facts
from wellhead.wire.pair import PairStream, join
from wellhead.wire.sni import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME, alert
from wellhead.wire.streams import Reason, StreamKind

FACTS = Facts(peer="192.0.2.7", peer_port=50123, server_name=NAME).encode()


async def echo(peer: Peer) -> None:
    """Replies carry the request's head."""
    while True:
        await peer.reply(await peer.request())


def after(go_on: asyncio.Event) -> Handler:
    """Replies when it is let."""

    async def reply(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        await peer.reply(b"at last")

    return reply


class Scene:
    """An upstream, a pool, and the house between them and its visitors."""

    def __init__(
        self, signer: Signer, pair: KeyPair, server: Server | None, terms: PassthroughTerms, upstream: str
    ) -> None:
        self.signer = signer
        self.told: list[Exchange] = []
        self.server = server
        self.pool = UpstreamPool(parse_upstream(upstream), on_exchange=self.told.append)
        self.house = Passthrough(NAME, "my-agent", pair.context(ALPN), self.pool, terms)

    def accept(self, stream: PairStream, data: bytes, end: bool) -> None:
        self.house.accept(stream, StreamKind.TCP, FACTS, data, end)

    def visitor(self, *alpn: str, name: str = NAME) -> TlsVisitor:
        return TlsVisitor(self.signer.root.trust(alpn or ("http/1.1",)), name, self.accept)

    async def ask(self, visitor: TlsVisitor, text: str) -> bytes:
        """One request and its reply, which has a length."""
        before = len(visitor.heard)
        visitor.send(text.replace("\n", "\r\n").encode())
        await visitor.until(lambda v: b"\r\n\r\n" in v.heard[before:] or v.ended or v.reset)
        head, _, rest = bytes(visitor.heard[before:]).partition(b"\r\n\r\n")
        length = int(
            next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))[15:]
        )
        await visitor.until(lambda v: len(v.heard) - before >= len(head) + 4 + length)
        return bytes(visitor.heard[before:])


@contextlib.asynccontextmanager
async def scene(
    home: Path, handler: Handler = echo, terms: PassthroughTerms | None = None, upstream: str = ""
) -> AsyncIterator[Scene]:
    """``handler`` is the upstream's, unless there is an ``upstream`` elsewhere."""
    signer = Signer()
    async with contextlib.AsyncExitStack() as stack:
        server = None if upstream else await stack.enter_async_context(serving(handler))
        where = upstream if server is None else str(server.port)
        made = Scene(signer, certificate(signer, home), server, terms or PassthroughTerms(), where)
        try:
            yield made
        finally:
            await made.house.close()
            await made.pool.aclose()


def certificate(signer: Signer, home: Path) -> KeyPair:
    files = CertificateFiles(home, "my-agent", NAME)
    key = files.key()
    return files.answered(signer.sign_now(files.request(key)), key, now())


GET = f"GET /a?b=c HTTP/1.1\nHost: {NAME}\n\n"


async def test_the_upstream_is_told_who_the_visitor_is_and_that_it_spoke_tls(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        visitor = await here.visitor().shaken()
        reply = await here.ask(visitor, GET.replace("\n\n", "\nX-Forwarded-For: 6.6.6.6\n\n"))
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        for field in (
            b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https", b"Forwarded: for=192.0.2.7",
            b"X-Forwarded-Host: " + NAME.encode(), b"Host: localhost:",
        ):  # fmt: skip
            assert field in reply
        assert b"6.6.6.6" not in reply


async def test_upstreams_of_other_kinds_are_served_as_well(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with serving(echo, path=str(path)), serving_h2(answering) as h2c:
        for upstream, said in (
            (f"unix:{path}", b"X-Forwarded-For"),
            (f"h2c://127.0.0.1:{h2c.port}", b"/a?b=c"),
        ):
            async with scene(tmp_path, upstream=upstream) as here:
                assert said in await here.ask(await here.visitor().shaken(), GET)


async def test_a_connection_serves_request_after_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        visitor = await here.visitor().shaken()
        for _ in range(3):
            assert b"GET /a?b=c HTTP/1.1" in await here.ask(visitor, GET)
        assert not visitor.ended and len(here.house) == 1
        assert here.server is not None and len(here.server.peers) == 1


async def test_each_request_is_told_of_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        visitor = await here.visitor().shaken()
        await here.ask(visitor, GET)
        await here.ask(visitor, GET.replace(NAME, "other.localhost"))
        await visitor.until(lambda v: v.ended)
        assert [(told.method, told.target, told.status, told.peer) for told in here.told] == [
            ("GET", "/a?b=c", 200, "192.0.2.7"), ("GET", "/a?b=c", 421, "192.0.2.7"),
        ]  # fmt: skip
        assert here.told[1].failure == "misdirected" and here.told[0].bytes_out > 0


@pytest.mark.parametrize("upstream", ["http", "h2c"])
async def test_whose_request_it_was_is_told_of_each_kind(tmp_path: Path, upstream: str) -> None:
    """Of those too whose heads were remembered, with a body, and for an upgrade."""
    upgrade = (
        "\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13"
        "\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
    )
    claims = "\nX-Forwarded-For: 6.6.6.6\n\n"
    asked = [GET] * 4 + [GET.replace("\n\n", claims), GET.replace("\n\n", "\nContent-Length: 0\n\n")]
    async with serving_h2(answering) as server:
        where = f"h2c://127.0.0.1:{server.port}" if upstream == "h2c" else ""
        async with scene(tmp_path, upstream=where) as here:
            visitor = await here.visitor().shaken()
            for request in asked:
                await here.ask(visitor, request)
            visitor.send(GET.replace("\n\n", upgrade).replace("\n", "\r\n").encode())
            await soon(lambda: len(here.told) > len(asked))
            assert [told.peer for told in here.told] == ["192.0.2.7"] * (len(asked) + 1)


async def test_a_request_that_breaks_the_rules_does_not_get_to_the_upstream(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        visitor = await here.visitor().shaken()
        reply = await here.ask(visitor, GET.replace("\n\n", "\nContent-Length: 1\nContent-Length: 2\n\n"))
        assert reply.startswith(b"HTTP/1.1 400 ")
        await visitor.until(lambda v: v.ended)
        assert here.server is not None and not here.server.peers
        assert [told.status for told in here.told] == [400]


async def test_an_upstream_that_is_away_is_a_page(tmp_path: Path) -> None:
    async with scene(tmp_path, upstream=str(free_port())) as here:
        here.pool.limits = here.pool.limits.__class__(dial_retry_seconds=0)
        visitor = await here.visitor().shaken()
        assert (await here.ask(visitor, GET)).startswith(b"HTTP/1.1 502 ")
        assert [(told.status, told.failure) for told in here.told] == [(0, "upstream_unreachable")]


@pytest.mark.parametrize(
    ("name", "alpn", "description"),
    [
        ("other.localhost", ("http/1.1",), UNRECOGNIZED_NAME),
        (NAME, ("acme-tls/1",), NO_APPLICATION_PROTOCOL),
    ],
)
async def test_another_name_or_protocol_is_an_alert(
    tmp_path: Path, name: str, alpn: tuple[str, ...], description: int
) -> None:
    async with scene(tmp_path) as here:
        visitor = here.visitor(*alpn, name=name)
        await visitor.until(lambda v: v.ended)
        assert visitor.raw == alert(description)


async def test_requests_that_somebody_read_on_the_way_are_refused(tmp_path: Path) -> None:
    """An edge that ends TLS of a passthrough tunnel is not the one that visitors mean to speak to."""

    class Hears:
        reasons: list[int] = []

        def on_reset(self, reason: int) -> None:
            self.reasons.append(reason)

    async with scene(tmp_path) as here:
        for kind in (StreamKind.HTTP, StreamKind.WEBSOCKET):
            near, far = join()
            near.sink = Hears()  # type: ignore[assignment]  # nothing else is to be heard
            here.house.accept(far, kind, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", True)
        assert Hears.reasons == [Reason.REFUSED, Reason.REFUSED]


async def test_a_new_certificate_is_for_new_connections_and_ends_none(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        old = await here.visitor().shaken()
        await here.ask(old, GET)
        pair = certificate(here.signer, tmp_path)
        here.house.context = pair.context(ALPN)
        new = await here.visitor().shaken()
        assert b"200 OK" in await here.ask(old, GET) and b"200 OK" in await here.ask(new, GET)
        before, after = (shown(visitor.tls).serial_number for visitor in (old, new))
        assert before != after
        assert shown(handshake(here.house.context, here.signer.root.trust(), NAME)).serial_number == after


async def test_a_connection_beyond_the_limit_is_told_so(tmp_path: Path) -> None:
    async with scene(tmp_path, echo, PassthroughTerms(max_connections=1)) as here:
        first = await here.visitor().shaken()
        await here.ask(first, GET)
        second = await here.visitor().shaken()
        assert (await here.ask(second, GET)).startswith(b"HTTP/1.1 503 ")
        await second.until(lambda v: v.ended)


async def test_a_drain_finishes_what_runs_and_ends_what_does_not(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with scene(tmp_path, after(go_on)) as here:
        idle, busy = await here.visitor().shaken(), await here.visitor().shaken()
        busy.send(GET.replace("\n", "\r\n").encode())
        await soon(lambda: here.pool.busy)
        draining = asyncio.ensure_future(here.house.drain(20))
        await idle.until(lambda v: v.said_goodbye and v.ended)
        assert not busy.ended
        go_on.set()
        await busy.until(lambda v: v.ended)
        assert busy.heard.endswith(b"at last") and b"\r\nConnection: close\r\n" in busy.heard
        busy.stream.send(b"", True)
        await draining


async def test_when_the_edge_leaves_its_idle_connections_end(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        visitor = await here.visitor().shaken()
        await here.ask(visitor, GET)
        here.house.leave()
        await visitor.until(lambda v: v.said_goodbye and v.ended)
        after = await here.visitor().shaken()
        assert b"200 OK" in await here.ask(after, GET), "those of the next edge are served"
        assert b"Connection: close" not in after.heard


async def test_when_the_edge_leaves_a_running_request_is_the_last_of_its_connection(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with scene(tmp_path, after(go_on)) as here:
        visitor = await here.visitor().shaken()
        visitor.send(GET.replace("\n", "\r\n").encode())
        await soon(lambda: here.pool.busy)
        here.house.leave()
        go_on.set()
        await visitor.until(lambda v: v.ended)
        assert visitor.heard.endswith(b"at last") and b"\r\nConnection: close\r\n" in visitor.heard


async def test_a_malformed_envelope_is_a_reset(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        near, far = join()
        resets: list[int] = []
        near.sink = type("Hears", (), {"on_reset": lambda self, reason: resets.append(reason)})()
        here.house.accept(far, StreamKind.TCP, b"PROXY TCP4", b"", False)
        assert resets == [Reason.PROTOCOL]
