"""Agents of one program: the same small application behind every way to answer, each at a name of its own.

``python -m tests.kit.promise_agent URL KEY CA STATE`` prints a line ``way NAME`` for each, then ``online``.

Paths, each with ``?id=``, by which ``/fact`` tells what became of a request:

* ``/stream``: ``one``, and when ``/go`` was asked for, ``two``; with the content type of ``&type=``.
* ``/endless``: pieces of 64 KiB for as long as somebody takes them; ``fact`` has how many were made.
* ``/first``: the first piece of the request's body, before the rest is there; then the rest.
* ``/slurp``: how many bytes the request's body had, and their SHA-256.
* ``/die``: ``some``, and an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs

import uvicorn

import wellhead
from wellhead import Context, Request, Response, SyncRequest

PIECE = b"x" * 65536


class Facts:
    """What the test asks for; shared by loops and threads."""

    def __init__(self) -> None:
        self.go: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self.said: dict[str, str] = {}


FACTS = Facts()


def _id(query: str) -> str:
    return parse_qs(query)["id"][0]


def _type(query: str) -> str:
    return parse_qs(query).get("type", ["text/plain"])[0]


def _told(path: str, query: str) -> str | None:
    """The answers that need no stream."""
    if path == "/go":
        FACTS.go[_id(query)].set()
        return "gone"
    if path == "/fact":
        return FACTS.said.get(_id(query), "")
    return None


async def _going(key: str) -> None:
    await asyncio.to_thread(FACTS.go[key].wait, 30)


# One application, four times


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("not served")
    path, query = scope["path"], scope["query_string"].decode()

    async def begin(kind: str = "text/plain") -> None:
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def say(data: bytes, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more})

    if (text := _told(path, query)) is not None:
        await begin()
        await say(text.encode(), False)
        return
    key = _id(query)
    if path == "/stream":
        await begin(_type(query))
        await say(b"one")
        await _going(key)
        await say(b"two", False)
    elif path == "/endless":
        made = 0
        await begin()
        assert not (await receive())["more_body"]
        # As frameworks do it: some servers tell of a visitor who has gone in no other way.
        left = asyncio.ensure_future(receive())
        try:
            while not left.done():
                made += 1
                FACTS.said[key] = str(made)
                await say(PIECE)
                await asyncio.sleep(0)
        finally:
            FACTS.said[key] = f"{made} ended"
            left.cancel()
    elif path == "/first":
        message = await receive()
        await begin()
        await say(message["body"])
        while message.get("more_body"):
            message = await receive()
            await say(message["body"])
        await say(b"", False)
    elif path == "/slurp":
        digest, size, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            digest.update(message["body"])
            size += len(message["body"])
            more = message["more_body"]
        await begin()
        await say(f"{size} {digest.hexdigest()}".encode(), False)
    elif path == "/die":
        await begin()
        await say(b"some")
        raise RuntimeError("died")


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]

    def begin(kind: str = "text/plain") -> None:
        start_response("200 OK", [("Content-Type", kind)])

    if (text := _told(path, query)) is not None:
        begin()
        yield text.encode()
        return
    begin(_type(query))
    yield from _pieces(
        path, _id(query), iter(lambda: environ["wsgi.input"].read(1), b""), environ["wsgi.input"]
    )


def _endless(key: str) -> Generator[bytes, None, None]:
    made = 0
    try:
        while True:
            made += 1
            FACTS.said[key] = str(made)
            yield PIECE
    finally:
        FACTS.said[key] = f"{made} ended"


def _pieces(path: str, key: str, pieces: Iterator[bytes], whole: Any) -> Iterator[bytes]:
    """For code in a thread."""
    if path == "/stream":
        yield b"one"
        FACTS.go[key].wait(30)
        yield b"two"
    elif path == "/endless":
        yield from _endless(key)
    elif path == "/first":
        yield from pieces
    elif path == "/slurp":
        digest, size = hashlib.sha256(), 0
        for piece in pieces if whole is None else iter(lambda: whole.read(65536), b""):
            digest.update(piece)
            size += len(piece)
        yield f"{size} {digest.hexdigest()}".encode()
    elif path == "/die":
        yield b"some"
        raise RuntimeError("died")


async def handler(request: Request, ctx: Context) -> Response | str:
    query = str(request.query)
    if (text := _told(request.path, query)) is not None:
        return text
    key = _id(query)
    if request.path == "/slurp":
        digest, size = hashlib.sha256(), 0
        async for piece in request:
            digest.update(piece)
            size += len(piece)
        return f"{size} {digest.hexdigest()}"
    return Response(_answer(request, key), content_type=_type(query))


async def _answer(request: Request, key: str) -> AsyncIterator[bytes]:
    if request.path == "/stream":
        yield b"one"
        await _going(key)
        yield b"two"
    elif request.path == "/endless":
        with closing(_endless(key)) as endless:
            for piece in endless:
                yield piece
    elif request.path == "/first":
        async for piece in request:
            yield piece
    elif request.path == "/die":
        yield b"some"
        raise RuntimeError("died")


def thread_handler(request: SyncRequest, ctx: Context) -> Response | str:
    query = str(request.query)
    if (text := _told(request.path, query)) is not None:
        return text
    return Response(_pieces(request.path, _id(query), iter(request), None), content_type=_type(query))


def _uvicorn() -> int:
    """The ASGI application behind a port, in a thread."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(asgi, log_level="critical", lifespan="off"))
    threading.Thread(target=server.run, args=([sock],), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port: int = sock.getsockname()[1]
    return port


async def main(url: str, key: str, ca_file: str, state_dir: str) -> None:
    ways: dict[str, Any] = {
        "url": _uvicorn(), "asgi": asgi, "wsgi": wsgi, "handler": handler, "thread": thread_handler,
    }  # fmt: skip
    for name, way in ways.items():
        await wellhead.connect_async(
            way,
            name=f"way-{name}",
            url=url,
            api_key=key,
            ca_file=ca_file,
            state_dir=state_dir,
            print_secret=False,
        )
        print(f"way {name}", flush=True)
    print("online", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
