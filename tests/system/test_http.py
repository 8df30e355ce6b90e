"""HTTP/1.1 from a visitor's socket to the upstream's and back, through real programs."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re

import pytest

from tests.kit.fronts import Front
from tests.kit.programs import quiet_port
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Truncated, ask, request, visiting
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def echo(peer: Peer) -> None:
    """Answer every request with its own head."""
    while head := await peer.request():
        await peer.reply(head)


def fields(head: bytes) -> dict[str, list[str]]:
    """A head's fields by name in lower case."""
    found: dict[str, list[str]] = {}
    for line in head[:-4].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


async def test_a_request_reaches_the_upstream_and_its_reply_the_visitor(front: Front, leg: str) -> None:
    async with front.serving(echo), visiting(front.edge, front.sni(leg)) as visitor:
        for number in range(3):  # one connection, kept alive
            reply = await visitor.get(f"/a%2Fb//c/?n={number}&x=%00", front.host(leg))
            assert reply.status == 200
            assert reply.body.startswith(f"GET /a%2Fb//c/?n={number}&x=%00 HTTP/1.1\r\n".encode())


async def test_forwarding_fields_are_ours_and_spoofed_ones_are_dropped(front: Front, leg: str) -> None:
    spoofed = [
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=6.6.6.6;host=evil.example",
        "X-Request-Id: chosen-by-the-visitor",
        "X-Real-IP: 6.6.6.6",
        "Proxy: http://evil.example",
        "Connection: X-Forwarded-For, X-Nominated",
        "X-Nominated: 1",
        "Keep-Alive: timeout=5",
        "Cookie: a=1; b=2",
        "Authorization: Basic abc",
    ]
    async with front.serving(echo), visiting(front.edge, front.sni(leg)) as visitor:
        reply = await visitor.get("/", front.host(leg), *spoofed)
    seen = fields(reply.body)
    scheme = "https" if leg == "tls" else "http"
    assert seen["host"] == [f"localhost:{front.port}"]
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-proto"] == [scheme]
    assert seen["x-forwarded-host"] == [front.host(leg)]
    assert seen["forwarded"] and "6.6.6.6" not in seen["forwarded"][0]
    assert f"proto={scheme}" in seen["forwarded"][0]
    assert len(seen["x-request-id"]) == 1 and seen["x-request-id"] != ["chosen-by-the-visitor"]
    assert seen["cookie"] == ["a=1; b=2"] and seen["authorization"] == ["Basic abc"]
    assert not {"x-real-ip", "proxy", "x-nominated", "keep-alive"} & set(seen)


async def test_origin_and_referer_are_rewritten_only_where_they_are_the_public_origin(front: Front) -> None:
    ours, local = f"https://{front.host('tls')}", f"http://localhost:{front.port}"
    async with front.serving(echo):
        same = fields(
            (await ask(front.edge, front.hostname, "/", f"Origin: {ours}", f"Referer: {ours}/a?b")).body
        )
        other = fields((await ask(front.edge, front.hostname, "/", "Origin: https://evil.example")).body)
    assert same["origin"] == [local] and same["referer"] == [f"{local}/a?b"]
    assert other["origin"] == ["https://evil.example"]


@pytest.mark.parametrize(
    "method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "REPORT", "X-ANY"]
)
async def test_any_method_passes(front: Front, method: str) -> None:
    async with front.serving(echo), visiting(front.edge, front.hostname) as visitor:
        reply = await visitor.get("/m", front.host("tls"), method=method)
        assert reply.status == 200 and reply.body.startswith(method.encode() + b" /m ")


async def test_head_has_the_length_and_no_body(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        while await peer.request():
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: x\r\n\r\n")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        for _ in range(2):  # the second proves that no byte of a body came with the first
            reply = await visitor.get("/", front.host(leg), method="HEAD")
            assert (reply.status, reply.get("content-length"), reply.body) == (200, "1234", b"")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_replies_without_a_body_keep_the_connection(front: Front, leg: str, status: bytes) -> None:
    async def upstream(peer: Peer) -> None:
        while await peer.request():
            await peer.say(b"HTTP/1.1 " + status + b'\r\nETag: "1"\r\n\r\n')

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        for _ in range(3):
            reply = await visitor.get("/", front.host(leg))
            assert reply.status == int(status[:3]) and reply.get("etag") == '"1"'
            assert reply.get("transfer-encoding") is None


async def test_a_chunked_body_goes_up_with_its_trailers_and_another_comes_down(
    front: Front, leg: str
) -> None:
    got: list[tuple[bytes, bytes, bytes]] = []

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        got.append((head, *await peer.chunked()))
        await peer.say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
            b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n",
        )

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(
            request(
                "/up",
                front.host(leg),
                "Transfer-Encoding: chunked",
                "TE: trailers",
                "Trailer: X-Up",
                method="POST",
            ),
            b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Up: yes\r\n\r\n",
        )
        reply = await visitor.reply()
    head, body, trailers = got[0]
    assert body == b"hello world" and trailers.lower() == b"x-up: yes\r\n"
    assert fields(head)["transfer-encoding"] == ["chunked"] and "content-length" not in fields(head)
    assert reply.body == b"abcdefg" and reply.trailers == [("x-sum", "7")]


async def test_a_reply_that_ends_with_its_connection_arrives_chunked_and_whole(
    front: Front, leg: str
) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"until ", b"the end")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        reply = await visitor.get("/", front.host(leg))
        assert reply.body == b"until the end" and reply.get("transfer-encoding") == "chunked"


async def test_early_hints_come_before_the_reply(front: Front, leg: str) -> None:
    answer = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        await answer.wait()
        await peer.reply(b"done")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg)))
        early = await visitor.head()
        answer.set()
        assert (early.status, early.get("link")) == (103, "</a.css>; rel=preload")
        assert (await visitor.reply()).body == b"done"


async def test_100_continue_is_the_upstreams_to_say(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        assert b"100-continue" in head
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.reply(await peer.body(5))

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(
            request("/", front.host(leg), "Expect: 100-continue", "Content-Length: 5", method="POST")
        )
        assert (await visitor.head()).status == 100
        await visitor.send(b"12345")
        assert (await visitor.reply()).body == b"12345"


async def test_a_final_answer_instead_of_100_continue_closes_the_connection(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"too large", status=b"413 Content Too Large")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(
            request("/", front.host(leg), "Expect: 100-continue", "Content-Length: 99999999", method="PUT")
        )
        reply = await visitor.reply()
        assert (reply.status, reply.body, reply.get("connection")) == (413, b"too large", "close")
        assert await visitor.rest(5) == b""


@pytest.mark.needs("curl")
async def test_curl_sends_a_body_after_100_continue(front: Front) -> None:
    size = 3_000_000

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.reply(b"%d" % len(await peer.body(size)))

    async with front.serving(upstream):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--max-time", "20", "--cacert", str(front.edge.ca), "--noproxy", "*"),
            *("-H", "Expect: 100-continue", "--data-binary", "@-", f"{front.url}/up"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await curl.communicate(bytes(size))
    assert out == str(size).encode()


async def test_pipelined_requests_are_answered_in_order(front: Front, leg: str) -> None:
    async with front.serving(echo), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(b"".join(request(f"/{number}", front.host(leg)) for number in range(10)))
        for number in range(10):
            reply = await visitor.reply()
            assert reply.body.startswith(b"GET /%d " % number)


async def test_compressed_bytes_pass_as_they_are(front: Front) -> None:
    packed = gzip.compress(b"hello " * 1000)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(packed, b"Content-Encoding: gzip")

    async with front.serving(upstream):
        reply = await ask(front.edge, front.hostname, "/", "Accept-Encoding: gzip")
    assert reply.body == packed and reply.get("content-encoding") == "gzip"


async def test_a_visitor_that_ended_its_half_still_gets_its_reply(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"late but whole")

    async with front.serving(upstream), visiting(front.edge, None) as visitor:
        await visitor.send(request("/", front.host("plain")))
        visitor.half_close()
        assert (await visitor.reply()).body == b"late but whole"
        assert await visitor.rest(5) == b""


@pytest.mark.parametrize("begun", [False, True], ids=["before the reply", "within the reply"])
async def test_a_visitor_that_leaves_is_felt_by_the_upstream(front: Front, leg: str, begun: bool) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        if begun:
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        asked.set()
        await peer.closed()
        gone.set()

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg)))
        async with asyncio.timeout(5):
            await asked.wait()
        if begun:
            await visitor.head()
        visitor.reset()
        async with asyncio.timeout(3):
            await gone.wait()


async def test_a_visitor_that_leaves_within_its_upload_is_no_complete_upload(front: Front, leg: str) -> None:
    ended = asyncio.get_running_loop().create_future()

    asked = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        asked.set()
        try:
            ended.set_result(await peer.chunked())
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            ended.set_result(error)

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(
            request("/", front.host(leg), "Transfer-Encoding: chunked", method="POST"), b"5\r\nhello\r\n"
        )
        async with asyncio.timeout(5):
            await asked.wait()
        await visitor.close()
        async with asyncio.timeout(5):
            assert isinstance(await ended, Exception)


async def test_an_upstream_that_dies_within_a_body_is_seen_as_truncation(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        framing = b"Content-Length: 1000" if b"/length" in head else b"Transfer-Encoding: chunked"
        await peer.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await peer.say(b"partial" if b"/length" in head else b"7\r\npartial\r\n")
        peer.hang_up()

    async with front.serving(upstream):
        for target in ("/length", "/chunked"):
            async with visiting(front.edge, front.sni(leg)) as visitor:
                with pytest.raises((Truncated, ConnectionError)):
                    await visitor.get(target, front.host(leg))


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n X-Folded: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_what_is_no_http_reply_becomes_502(front: Front, answer: bytes) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer)

    async with front.serving(upstream), visiting(front.edge, front.hostname) as visitor:
        # A method that is never tried twice: an empty answer to a GET may be.
        reply = await visitor.get("/", front.host("tls"), "Content-Length: 0", method="POST")
    assert (reply.status, json.loads(reply.body)["status"]) == (502, 502)


async def test_bytes_behind_a_reply_never_become_another_visitors_reply(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        await peer.reply(head.split()[1])
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
        with contextlib.suppress(asyncio.IncompleteReadError):
            await peer.request()

    async with front.serving(upstream):
        for number in range(20):
            reply = await ask(front.edge, front.hostname, f"/{number}")
            # Bytes that come beside a reply make it longer than it says it is, which is a fault by itself.
            assert reply.status == 502 or reply.body == b"/%d" % number


async def test_fields_for_hops_and_alternative_services_do_not_come_back(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(
            b"ok", b'Alt-Svc: h3=":443"', b"Connection: X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=1",
            b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Upgrade: h2c",
        )  # fmt: skip

    async with front.serving(upstream):
        reply = await ask(front.edge, front.hostname, "/")
    assert reply.all("set-cookie") == ["a=1", "b=2"]
    for name in ("alt-svc", "x-hop", "keep-alive", "upgrade"):
        assert reply.get(name) is None


async def test_a_cookie_is_for_the_name_that_sets_it_alone(front: Front, leg: str) -> None:
    said = (
        b"a=1; Domain=localhost", b"b=2; domain=.localhost; Path=/x; HttpOnly",
        b"c=3; Secure; DOMAIN = x.localhost", b'd="; Domain=localhost"; Max-Age=1',
        b"e=5;Domain=localhost;Domain=.localhost", b"f=Domain=localhost", b"g=7; Domain=localhost",
    )  # fmt: skip

    async def upstream(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"ok", *(b"set-Cookie: " + each for each in said))

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        for _ in range(3):
            cookies = (await visitor.get("/", front.host(leg))).all("set-cookie")
            assert [each.partition("=")[0] for each in cookies] == list("abcdefg")
            assert not any(re.search(r"(?i);\s*domain", each) for each in cookies), cookies
            assert cookies[1].startswith("b=2") and "Path=/x" in cookies[1] and "HttpOnly" in cookies[1]
            assert cookies[5] == "f=Domain=localhost"


async def test_error_pages_are_html_for_browsers_and_json_for_programs(house: House) -> None:
    browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    nowhere = "nobody-here-0000.localhost"
    for hostname, status in ((nowhere, 404), (house.hostname, 502)):
        page = await ask(house.edge, hostname, "/<script>", browser)
        data = await ask(house.edge, hostname, "/", "Accept: */*")
        assert page.status == data.status == status
        assert (page.get("content-type") or "").startswith("text/html")
        assert data.get("content-type") == "application/json"
        facts = json.loads(data.body)
        assert facts["status"] == status and facts["request_id"] == data.get("x-request-id")
        assert (page.get("x-request-id") or "-").encode() in page.body
        assert b"<script>" not in page.body and hostname.encode() not in page.body
        assert str(house.port).encode() not in page.body and b"127.0.0.1" not in page.body


async def test_a_tunnel_without_an_agent_is_503_with_retry_after(house: House) -> None:
    with house.edge.agent(quiet_port()) as agent:
        hostname = agent.hostname
        agent.stop()
    reply = await ask(house.edge, hostname)
    assert reply.status == 503 and int(reply.get("retry-after") or 0) > 0


async def test_a_head_that_is_too_large_is_431_and_a_line_too_long_414(front: Front, leg: str) -> None:
    host = front.host(leg)
    for head, status in (
        (request("/" + "a" * 9000, host), 414),
        (request("/", host, "X-A: " + "a" * 9000), 431),
        (request("/", host, *(f"X-{n}: {'a' * 7000}" for n in range(6))), 431),
        (request("/", host, *(f"X-{n}: 1" for n in range(101))), 431),
    ):
        async with visiting(front.edge, front.sni(leg)) as visitor:
            await visitor.send(head)
            assert (await visitor.reply()).status == status
            await visitor.rest(5)


async def test_a_rest_body_that_is_too_large_for_the_api_is_413(house: House) -> None:
    async with visiting(house.edge, "localhost") as visitor:
        await visitor.send(
            request(
                "/api/v1/tunnels", f"localhost:{house.edge.https}", f"X-API-Key: {house.edge.key}",
                "Content-Type: application/json", "Content-Length: 2000000", method="POST",
            )
        )  # fmt: skip
        with contextlib.suppress(ConnectionError):
            await visitor.send(b" " * 2_000_000)
        assert (await visitor.reply()).status == 413


async def test_a_refusal_within_an_upload_is_seen_by_the_visitor(front: Front, leg: str) -> None:
    """An upstream that answers and hangs up is no broken pipe: its answer arrives, and the upload is over."""

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"no more", b"Connection: close", status=b"413 Content Too Large")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        size = 50_000_000
        await visitor.send(request("/", front.host(leg), f"Content-Length: {size}", method="PUT"))

        async def upload() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(0, size, 65536):
                    visitor.writer.write(bytes(65536))
                    await visitor.writer.drain()

        uploading = asyncio.create_task(upload())
        reply = await visitor.reply()
        assert (reply.status, reply.body) == (413, b"no more")
        async with asyncio.timeout(5):
            await visitor.rest()
            await uploading


async def test_an_upstream_of_http_1_0_is_served_like_any_other(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold but good")

    async with front.serving(upstream):
        for _ in range(3):
            assert (await ask(front.edge, front.hostname)).body == b"old but good"


async def test_a_visitor_of_http_1_0_gets_no_chunks_and_a_close(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
        )

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(f"GET / HTTP/1.0\r\nHost: {front.host(leg)}\r\n\r\n".encode())
        reply = await visitor.reply()
        assert reply.get("transfer-encoding") is None and reply.body == b"abcdef"


async def test_requests_at_the_limits_pass(front: Front, leg: str) -> None:
    host = front.host(leg)
    async with front.serving(echo), visiting(front.edge, front.sni(leg)) as visitor:
        for head in (
            request("/" + "a" * 8100, host),
            request("/", host, "X-A: " + "a" * 8100),
            request("/", host, *(f"X-{number}: 1" for number in range(98))),
            request("/", host, *(f"X-{number}: {'a' * 7000}" for number in range(4))),
        ):
            await visitor.send(head)
            assert (await visitor.reply()).status == 200


async def test_large_heads_and_many_cookies_come_back(front: Front) -> None:
    cookies = [f"Set-Cookie: c{number}={'v' * 900}".encode() for number in range(50)]

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"ok", *cookies)

    async with front.serving(upstream):
        assert len((await ask(front.edge, front.hostname)).all("set-cookie")) == 50


async def test_a_visitor_by_ipv6_is_named_as_such(front: Front) -> None:
    async with (
        front.serving(echo),
        visiting(front.edge, front.hostname, address="::1") as visitor,
    ):
        seen = fields((await visitor.get("/", front.host("tls"))).body)
    assert seen["x-forwarded-for"] == ["::1"] and 'for="[::1]"' in seen["forwarded"][0]


@pytest.mark.parametrize(
    ("policy", "expected"), [("preserve", "{public}"), ("app.internal:81", "app.internal:81")]
)
async def test_the_host_header_is_what_the_agent_was_told(house: House, policy: str, expected: str) -> None:
    port = quiet_port()
    async with serving(echo, port=port):
        agent = await asyncio.to_thread(house.edge.agent, port, "--host-header", policy)
        with agent:
            seen = fields((await ask(house.edge, agent.hostname)).body)
            public = f"{agent.hostname}:{house.edge.https}"
    assert seen["host"] == [expected.format(public=public)]
    assert seen["x-forwarded-host"] == [public]


@pytest.mark.parametrize(
    ("method", "status", "fields_"),
    [
        ("HEAD", b"200 OK", b"Content-Length: 5\r\n"),
        ("HEAD", b"200 OK", b"Transfer-Encoding: chunked\r\n"),
        ("GET", b"204 No Content", b"Content-Length: 5\r\n"),
        ("GET", b"304 Not Modified", b"Content-Length: 5\r\n"),
    ],
)
async def test_a_body_where_none_may_be_is_nobodys_reply(
    front: Front, method: str, status: bytes, fields_: bytes
) -> None:
    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            if b"/faulty" in head:
                await peer.say(b"HTTP/1.1 " + status + b"\r\n" + fields_ + b"\r\nhello")
            else:
                await peer.reply(b"clean")

    async with front.serving(upstream), visiting(front.edge, front.hostname) as visitor:
        for _ in range(5):
            faulty = await visitor.get("/faulty", front.host("tls"), method=method)
            assert faulty.status in (int(status[:3]), 502)
            clean = await visitor.get("/clean", front.host("tls"))
            assert (clean.status, clean.body) == (200, b"clean")


async def test_a_request_in_single_bytes_is_a_request(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        body, trailers = await peer.chunked()
        await peer.reply(body + trailers)

    text = request("/", front.host(leg), "Transfer-Encoding: chunked", "Trailer: X-T", method="POST")
    text += b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-T: 1\r\n\r\n"
    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        for at in range(len(text)):
            await visitor.send(text[at : at + 1])
            await asyncio.sleep(0)
        assert (await visitor.reply()).body.lower() == b"hello!x-t: 1\r\n"


async def test_pipelined_uploads_keep_their_bodies_apart(front: Front, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            if b"transfer-encoding" in head.lower():
                body, _ = await peer.chunked()
            else:
                body = await peer.body(5)
            await peer.reply(head.split()[1] + b" " + body)

    host = front.host(leg)
    text = b"".join(
        request(f"/{number}", host, method="POST", body=b"%05d" % number)
        if number % 2
        else request(f"/{number}", host, "Transfer-Encoding: chunked", method="POST")
        + b"2\r\n%02d\r\n3\r\n%03d\r\n0\r\n\r\n" % (0, number)
        for number in range(200)
    )
    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        sending = asyncio.create_task(visitor.send(text))
        for number in range(200):
            assert (await visitor.reply()).body == b"/%d %05d" % (number, number)
        await sending
