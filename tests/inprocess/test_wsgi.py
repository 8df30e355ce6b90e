"""WSGI applications, streamed both ways. Source: PEP 3333."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.inprocess import REQUEST_ID, envelope, hosting
from wellhead.inprocess.wsgi import Wsgi
from wellhead.wire.streams import Reason


async def test_the_environment_is_pep_3333s() -> None:
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response(
            "201 Created", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        )
        return [environ["wsgi.input"].read()]

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope("POST", "/%C3%A9?q=\xe9", ("X-A", "1"), length=4), b"body")
        await visit.over()
    assert visit.status == 201 and bytes(visit.body) == b"body"
    assert "set-cookie: a=1\r\nset-cookie: b=2" in visit.head
    environ = environs[0]
    assert environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/\xc3\xa9"
    assert environ["QUERY_STRING"] == "q=\xe9" and environ["RAW_URI"] == "/%C3%A9?q=\xe9"
    assert environ["HTTP_X_A"] == "1" and environ["CONTENT_LENGTH"] == "4" and environ["SCRIPT_NAME"] == ""
    assert environ["wsgi.url_scheme"] == "https" and environ["REMOTE_ADDR"] == "192.0.2.7"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("app.example.com", "8443")
    assert environ["HTTP_HOST"] == "app.example.com:8443"


async def test_a_piece_goes_out_before_the_next_is_made() -> None:
    go_on = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"one"
        go_on.wait(5)
        yield b"two"

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope())
        await visit.until(lambda: visit.body == b"one")
        go_on.set()
        await visit.over()
    assert bytes(visit.body) == b"onetwo"


async def test_a_visitor_that_leaves_closes_the_iterable() -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 4096

        def close(self) -> None:
            loop.call_soon_threadsafe(closed.set)

    def app(environ: Any, start_response: Any) -> Endless:
        start_response("200 OK", [])
        return Endless()

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope())
        await visit.until(lambda: len(visit.body) > 100_000)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(closed.wait(), 2)


async def test_a_slow_visitor_stops_the_producer() -> None:
    made = 0

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        for _ in range(100):
            made += 65536
            yield b"x" * 65536

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope())
        visit.holding = True
        await visit.until(lambda: len(visit.body) >= 256 * 1024)
        await asyncio.sleep(0.05)
        assert made <= 512 * 1024
        visit.release()
        await visit.over()
    assert len(visit.body) == 6553600 and visit.ended


async def test_a_broken_upload_is_an_oserror_and_not_an_end() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError:
            loop.call_soon_threadsafe(outcome.set_result, "gone")
            raise
        return []

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope("POST", "/", length=10), b"half", end=False)
        await asyncio.sleep(0)
        visit.stream.reset(Reason.CANCELLED)
        assert await asyncio.wait_for(outcome, 5) == "gone"


async def test_an_error_is_a_500_and_a_late_one_a_truncation() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/late":
            start_response("200 OK", [])
            yield b"some"
        raise ValueError("secret")

    async with hosting(Wsgi(app)) as host:
        early, late = await host.get("/early"), await host.get("/late")
    assert early.status == 500 and REQUEST_ID.encode() in early.body
    assert late.reset == Reason.UPSTREAM_FAILED and bytes(late.body) == b"some"


async def test_head_has_no_body() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        return [b"body"]

    async with hosting(Wsgi(app)) as host:
        visit = await host.get(method="HEAD")
    assert visit.status == 200 and not visit.body and "Content-Length: 4" in visit.head


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda body: [body.readline(3), body.readline(100), body.readline()], [b"one", b"\n", b"two\n"]),
        (lambda body: body.readlines(), [b"one\n", b"two\n", b"end"]),
        (lambda body: list(body), [b"one\n", b"two\n", b"end"]),
        (
            lambda body: [body.read(5), body.read(), body.read(1), body.readlines()],
            [b"one\nt", b"wo\nend", b"", []],
        ),
    ],
)
async def test_the_input_is_read_as_a_file_is(read: Any, expected: Any) -> None:
    heard: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        heard.extend(read(environ["wsgi.input"]))
        start_response("200 OK", [])
        return []

    async with hosting(Wsgi(app)) as host:
        await host.open(envelope("POST", length=11), b"one\ntwo\nend").over()
    assert heard == expected


async def test_an_error_before_the_first_byte_replaces_the_head_and_after_it_is_raised() -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""  # nothing: the head is not sent for it
        if environ["PATH_INFO"] == "/late":
            yield b"x"
        try:
            raise ValueError("no")
        except ValueError:
            try:
                start_response("503 Sorry", [("X-Error", "1")], sys.exc_info())
            except ValueError as error:
                raised.append(error)
                raise
        yield b"sorry"

    async with hosting(Wsgi(app)) as host:
        early, late = await host.get("/"), await host.get("/late")
    assert early.status == 503 and bytes(early.body) == b"sorry" and early.ended
    assert late.status == 200 and late.reset == Reason.UPSTREAM_FAILED and len(raised) == 1


async def test_a_second_start_without_an_error_is_refused() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return [b"x"]

    async with hosting(Wsgi(app)) as host:
        assert (await host.get()).status == 500


async def test_a_path_that_is_no_utf8_keeps_its_bytes() -> None:
    paths: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        paths.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"x"]

    async with hosting(Wsgi(app)) as host:
        await host.get("/%FF%2F")
    assert paths == ["/\xff/"]


async def test_an_exit_in_a_thread_is_a_500() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        sys.exit(3)

    async with hosting(Wsgi(app)) as host:
        assert (await host.get()).status == 500
        assert (await host.get()).status == 500


async def test_a_listener_that_closes_frees_the_thread_of_a_slow_visitor() -> None:
    closed = threading.Event()

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x" * 65536

        def close(self) -> None:
            closed.set()

    def app(environ: Any, start_response: Any) -> Endless:
        start_response("200 OK", [])
        return Endless()

    async with hosting(Wsgi(app)) as host:
        visit = host.open(envelope(), end=True)
        visit.holding = True
        await visit.until(lambda: len(visit.body) >= 4 * 65536)
    assert await asyncio.to_thread(closed.wait, 5)
