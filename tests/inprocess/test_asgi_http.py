"""ASGI over streams: what the specification says of HTTP, one claim each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.kit.inprocess import REQUEST_ID, asgi, envelope
from wellhead.errors import StateError, VisitorGone
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.streams import HeadKind, Reason


async def read_all(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send: Any, body: bytes = b"", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def silent() -> tuple[Any, asyncio.Event]:
    """An application that never answers, and whether it was cancelled."""
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    return app, cancelled


async def test_the_scope_says_what_the_visitor_asked_for() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scopes.append(scope)
            await answer(send)

    async with asgi(app) as host:
        await host.get("/a%2Fb/%C3%A9?q=%20x", ("Accept", "*/*"), method="PUT")
    scope = scopes[0]
    assert scope["method"] == "PUT" and scope["path"] == "/a/b/é" and scope["raw_path"] == b"/a%2Fb/%C3%A9"
    assert scope["query_string"] == b"q=%20x" and scope["scheme"] == "https" and scope["root_path"] == ""
    assert scope["client"] == ("192.0.2.7", 0) and scope["server"] == ("app.example.com", 8443)
    assert scope["http_version"] == "1.1" and scope["asgi"]["version"] == "3.0"
    headers = scope["headers"]
    assert headers[0] == (b"host", b"app.example.com:8443") and (b"accept", b"*/*") in headers
    assert headers[-1] == (b"x-request-id", REQUEST_ID.encode())


async def test_a_body_comes_as_it_arrives_and_is_credited_as_it_is_read() -> None:
    first = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        message = await receive()
        assert message == {"type": "http.request", "body": b"one", "more_body": True}
        first.set()
        await answer(send, b"got " + await read_all(receive))

    async with asgi(app) as host:
        visit = host.open(envelope("POST", "/", length=6), b"one", end=False)
        await asyncio.wait_for(first.wait(), 5)
        visit.send(b"two", True)
        await visit.over()
    assert bytes(visit.body) == b"got two"


async def test_receive_blocks_after_the_body_until_the_visitor_has_gone() -> None:
    heard: list[Any] = []
    over = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await read_all(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        heard.append("waits")
        heard.append(await receive())
        over.set()

    async with asgi(app) as host:
        visit = host.open(envelope())
        await visit.until(lambda: visit.body)
        for _ in range(5):
            await asyncio.sleep(0)
        assert heard == ["waits"]
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(over.wait(), 5)
    assert heard[1] == {"type": "http.disconnect"}


async def test_a_send_to_a_visitor_that_has_gone_is_an_oserror() -> None:
    errors: list[BaseException] = []
    over = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 9000, "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            errors.append(error)
            over.set()
            raise

    async with asgi(app) as host:
        visit = host.open(envelope())
        await visit.until(lambda: visit.body)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(over.wait(), 5)
    assert isinstance(errors[0], VisitorGone)


async def test_a_producer_waits_for_a_visitor_that_does_not_read() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536
        await send({"type": "http.response.body"})

    async with asgi(app) as host:
        visit = host.open(envelope())
        visit.holding = True
        for _ in range(200):
            await asyncio.sleep(0)
        assert 0 < sent <= 512 * 1024
        visit.release()
        await visit.over()
    assert len(visit.body) == 6553600 and visit.ended


async def test_a_visitor_that_leaves_cancels_a_producer_which_does_not_listen() -> None:
    app, cancelled = silent()
    async with asgi(app) as host:
        visit = host.open(envelope())
        await asyncio.sleep(0)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(cancelled.wait(), 2)
    assert host.exchanges[0].failure == "cancelled"


async def test_what_goes_on_after_a_complete_reply_is_not_cancelled() -> None:
    done = asyncio.Event()
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await answer(send, b"accepted", 202)
        await go_on.wait()
        done.set()

    async with asgi(app) as host:
        visit = await host.get()
        visit.stream.reset(Reason.CANCELLED)
        go_on.set()
        await asyncio.wait_for(done.wait(), 5)
    assert visit.status == 202


async def test_trailers_follow_the_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.heads[-1] == (HeadKind.TRAILERS, b"x-sum: 42\r\n\r\n") and bytes(visit.body) == b"body"


async def test_a_file_is_sent_by_its_path(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        assert "http.response.pathsend" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    async with asgi(app) as host:
        visit = await host.get()
    assert bytes(visit.body) == content


@pytest.mark.parametrize(
    ("status", "method"), [(200, "HEAD"), (204, "GET"), (304, "GET")], ids=["head", "204", "304"]
)
async def test_a_reply_that_has_no_body_gets_none(status: int, method: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(send, b"body", status, [(b"content-length", b"4")] if method == "HEAD" else [])

    async with asgi(app) as host:
        visit = await host.get(method=method)
    assert visit.status == status and not visit.body and visit.ended
    assert ("Content-Length: 4" in visit.head) == (method == "HEAD")


@pytest.mark.parametrize("body", [b"toolong", b"x"], ids=["longer", "shorter"])
async def test_a_body_that_is_not_what_its_length_promised_is_no_clean_end(body: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": body})

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.reset == Reason.UPSTREAM_FAILED and not visit.ended


async def test_an_error_before_the_head_is_a_500_and_after_it_a_truncation() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("a secret of the application")

    async with asgi(app) as host:
        early, late = await host.get("/early"), await host.get("/late")
    assert early.status == 500 and REQUEST_ID.encode() in early.body and b"secret" not in early.body
    assert late.status == 200 and late.reset == Reason.UPSTREAM_FAILED and bytes(late.body) == b"some"
    assert [exchange.failure for exchange in host.exchanges] == ["handler_failed"] * 2


async def test_one_that_returns_without_an_answer_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return None

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.status == 500


@pytest.mark.parametrize(
    "headers",
    [[(b"x", b"a\r\nb: c")], [(b"bad name", b"v")], [(b"content-length", b"-1")], [(b"x", b"\x00")]],
    ids=["line-break", "name", "length", "nul"],
)
async def test_a_field_that_cannot_be_sent_is_the_applications_error(headers: Any) -> None:
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await answer(send, b"", 200, headers)
        except StateError as error:
            errors.append(error)
            raise

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.status == 500 and errors


async def test_fields_of_one_hop_are_dropped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await answer(
                send,
                b"x",
                headers=[(b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"X-A", b" 1 ")],
            )

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.head == "HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n"


async def test_a_body_above_the_cap_is_refused_before_it_is_read() -> None:
    called: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            called.append(scope)
            await answer(send, await read_all(receive))

    async with asgi(app, max_body_bytes=10) as host:
        told = host.open(envelope("POST", "/", length=11), b"", end=False)
        await told.over()
        assert told.status == 413 and not called
        untold = host.open(envelope("POST", "/"), b"12345", end=False)
        untold.send(b"678901", False)
        await untold.over()
    assert untold.status == 413


async def test_no_reply_by_its_deadline_is_a_timeout_and_cancels() -> None:
    app, cancelled = silent()
    async with asgi(app, limits=UpstreamLimits(reply_seconds=0.1)) as host:
        visit = await host.get()
        await asyncio.wait_for(cancelled.wait(), 5)
    assert visit.reset == Reason.TIMEOUT and host.exchanges[0].failure == "timeout"


async def test_early_hints_come_before_the_reply() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await answer(send, b"x")

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.heads[0] == (HeadKind.INTERIM, b"HTTP/1.1 103 \r\nlink: </a.css>; rel=preload\r\n\r\n")
