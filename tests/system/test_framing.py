"""Requests that are not HTTP/1.1, or mean to be read in two ways: answered, closed, never forwarded."""

from __future__ import annotations

import pytest

from tests.kit.fronts import Front
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer
from tests.kit.visitors import request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

GET = b"GET / HTTP/1.1\r\nHost: {host}\r\n"
POST = b"POST / HTTP/1.1\r\nHost: {host}\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"

# name -> (bytes, statuses that are right). {host} becomes the tunnel's authority.
REFUSED: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "length and chunked": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "chunked and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", (400,)),
    "two equal lengths": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", (400,)),
    "a list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", (400,)),
    "a signed length": (POST + b"Content-Length: +5\r\n\r\nhello", (400,)),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", (400,)),
    "a hexadecimal length": (POST + b"Content-Length: 0x5\r\n\r\nhello", (400,)),
    "a length with _": (POST + b"Content-Length: 1_0\r\n\r\n0123456789", (400,)),
    "a length with a space": (POST + b"Content-Length: 1 0\r\n\r\n0123456789", (400,)),
    "an empty length": (POST + b"Content-Length: \r\n\r\n", (400,)),
    "a length with zeros": (POST + b"Content-Length: 0005\r\n\r\nhello", (400,)),
    "a length of 20 digits": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", (400,)),
    "a length in other digits": (POST + "Content-Length: ٥\r\n\r\nhello".encode(), (400,)),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", (400, 501)),
    "chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "chunked, chunked": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", (400,)),
    "no coding": (POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", (400,)),
    "chunked after VT": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunked and NUL": (POST + b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n", (400,)),
    "quoted chunked": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', (400,)),
    "gzip": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (501,)),
    "chunked on HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "chunk size 0x5": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", (400,)),
    "chunk size +5": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", (400,)),
    "chunk size with _": (CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n", (400,)),
    "chunk size after a space": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", (400,)),
    "chunk size before a space": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", (400,)),
    "chunk size of 17 digits": (CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n", (400,)),
    "no chunk size": (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", (400,)),
    "bare LF after a chunk size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", (400,)),
    "bare CR in an extension": (CHUNKED + b"5;a=\rb\r\nhello\r\n0\r\n\r\n", (400,)),
    "bare LF in an extension": (CHUNKED + b"5;a=b\nx\r\nhello\r\n0\r\n\r\n", (400,)),
    "bare ; after a chunk size": (CHUNKED + b"5;\r\nhello\r\n0\r\n\r\n", (400,)),
    "control in an extension": (CHUNKED + b"5;a=\x01\r\nhello\r\n0\r\n\r\n", (400,)),
    "an extension of 300 bytes": (CHUNKED + b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n", (400,)),
    "no CRLF after chunk data": (CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", (400,)),
    "LF after chunk data": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", (400,)),
    "trailers of 9 KiB": (CHUNKED + b"0\r\nX-T: " + b"a" * 9000 + b"\r\n\r\n", (400, 431)),
    "bare LF in the head": (b"GET / HTTP/1.1\nHost: {host}\n\n", (400,)),
    "one bare LF": (GET + b"X-A: 1\nX-B: 2\r\n\r\n", (400,)),
    "CR in a value": (GET + b"X-A: 1\rX-B: 2\r\n\r\n", (400,)),
    "NUL in a value": (GET + b"X-A: 1\x002\r\n\r\n", (400,)),
    "a folded line": (GET + b"X-A: 1\r\n 2\r\n\r\n", (400,)),
    "a space before the colon": (GET + b"X-A : 1\r\n\r\n", (400,)),
    "an empty name": (GET + b": 1\r\n\r\n", (400,)),
    "a name that is no token": (GET + b"X(A): 1\r\n\r\n", (400,)),
    "no colon": (GET + b"X-A\r\n\r\n", (400,)),
    "whitespace before the first field": (b"GET / HTTP/1.1\r\n Host: {host}\r\n\r\n", (400,)),
    "no Host": (b"GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", (400,)),
    "two Hosts": (GET + b"Host: other.localhost\r\n\r\n", (400,)),
    "two equal Hosts": (GET + b"Host: {host}\r\n\r\n", (400,)),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", (400,)),
    "a list of Hosts": (b"GET / HTTP/1.1\r\nHost: {host}, evil.example\r\n\r\n", (400,)),
    "a Host with a user": (b"GET / HTTP/1.1\r\nHost: user@{host}\r\n\r\n", (400,)),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: {host}/a\r\n\r\n", (400,)),
    "a Host with a control": (b"GET / HTTP/1.1\r\nHost: {host}\x01\r\n\r\n", (400,)),
    "a Host with a bad port": (b"GET / HTTP/1.1\r\nHost: a.localhost:x\r\n\r\n", (400,)),
    "a Host with port 65536": (b"GET / HTTP/1.1\r\nHost: a.localhost:65536\r\n\r\n", (400,)),
    "a Host of 300 bytes": (b"GET / HTTP/1.1\r\nHost: " + b"a" * 300 + b".localhost\r\n\r\n", (400,)),
    "an absolute target for another Host": (
        b"GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        (400, 421),
    ),
    "a method that is no token": (b"G(T / HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "a method of 40 bytes": (b"A" * 40 + b" / HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n", (405,)),
    "CONNECT": (b"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", (405,)),
    "GET *": (b"GET * HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "a target without a slash": (b"GET a HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "a fragment in the target": (b"GET /a#b HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "HTTP/0.9": (b"GET /\r\n\r\n", (400,)),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: {host}\r\n\r\n", (400, 505)),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: {host}\r\n\r\n", (400, 505)),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: {host}\r\n\r\n", (505,)),
    "http/1.1": (b"GET / http/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "HTTP/01.1": (b"GET / HTTP/01.1\r\nHost: {host}\r\n\r\n", (400,)),
    "two spaces in the request line": (b"GET  / HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "a tab in the request line": (b"GET\t/ HTTP/1.1\r\nHost: {host}\r\n\r\n", (400,)),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "another expectation": (POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", (417,)),
    "X_Forwarded_For": (GET + b"X_Forwarded_For: 1.2.3.4\r\n\r\n", (400,)),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), (400,)),
    "noise": (bytes(range(128, 256)) * 4 + b"\r\n\r\n", (400,)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_closed_and_not_forwarded(front: Front, leg: str, name: str) -> None:
    text, statuses = REFUSED[name]
    host = front.host(leg).encode()
    complete: list[bytes] = []

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        if b"transfer-encoding: chunked" in head.lower():
            await peer.chunked()  # a body that turns out to be broken must not end well here
        complete.append(head)
        await peer.reply()

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        watch = Stopwatch(front.edge)
        await visitor.send(text.replace(b"{host}", host) + SMUGGLED.replace(b"{host}", host))
        reply = await visitor.reply()
        took = watch.seconds()
        assert reply.status in statuses
        assert reply.get("connection") == "close"
        assert await visitor.rest(5) == b"", "something was answered behind the refusal"
        assert took < 1.5  # seconds: at once, not after a wait for a body
    assert not complete


ACCEPTED: dict[str, bytes] = {
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n",
    "an absolute target": b"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "Upgrade: h2c": GET
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\n\r\n",
    "an unknown upgrade": GET + b"Connection: Upgrade\r\nUpgrade: gopher\r\n\r\n",
    "Host in upper case with a dot": b"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "an empty line before": b"\r\n" + GET + b"\r\n",
    "an empty value": GET + b"X-A:\r\n\r\n",
    "a value in Latin-1": GET + b"X-A: gr\xfc\xdfe\r\n\r\n",
    "length zero": POST + b"Content-Length: 0\r\n\r\n",
    "a chunk extension": CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0\r\n\r\n',
    "chunk sizes in both cases": CHUNKED + b"0000A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
    "trailers that are no trailers": CHUNKED
    + b"0\r\nContent-Length: 9\r\nHost: evil\r\nAuthorization: x\r\n\r\n",
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_unusual_but_lawful_requests_are_served(front: Front, leg: str, name: str) -> None:
    host = front.host(leg).encode()
    upper = front.hostname.upper().encode() + b".:" + host.partition(b":")[2]
    seen: list[bytes] = []

    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            seen.append(head)
            if b"transfer-encoding: chunked" in head.lower():
                _, trailers = await peer.chunked()
                seen.append(trailers)
            await peer.reply(b"served")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(ACCEPTED[name].replace(b"{host}", host).replace(b"{HOST}", upper))
        reply = await visitor.reply()
        assert (reply.status, reply.body) == (200, b"served")
    everything = b"".join(seen).lower()
    assert b"upgrade" not in everything and b"http2-settings" not in everything
    assert b"evil" not in everything and b"authorization" not in everything


async def test_a_short_rest_of_an_unread_body_is_read_away_and_never_taken_for_a_request(
    front: Front, leg: str
) -> None:
    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        await peer.reply(head.split()[1])
        await peer.closed()

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        smuggled = request("/smuggled", front.host(leg))
        await visitor.send(
            request("/first", front.host(leg), f"Content-Length: {len(smuggled)}", method="POST")
        )
        first = await visitor.reply()
        assert first.body == b"/first"
        try:
            await visitor.send(smuggled, request("/second", front.host(leg)))
            second = await visitor.reply()
        except (ConnectionError, EOFError, AssertionError):
            assert first.get("connection") == "close"
        else:
            assert second.body == b"/second"
