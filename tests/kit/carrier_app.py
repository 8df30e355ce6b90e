"""The app behind every carrier: an ASGI app of the standard library alone, for any server and any agent.

HTTP: ``/echo…`` what came, as JSON · ``/bytes/N`` · ``/status/N`` · ``/redirect`` · ``/gzip`` ·
``/cookies`` (two) · ``/latin1`` · ``/fields/N`` · ``/events/N`` (by 200 ms) · ``/wait/MS`` · ``/raise`` ·
``/left`` (how WebSockets ended, as JSON).
WebSocket: ``/ws`` echoes (``chat``) · ``/ws/deny`` · ``/ws/close/CODE`` · ``/ws/push/N`` · ``/ws/raise``.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Fields = list[tuple[bytes, bytes]]

PLAIN = b"text that is worth to be compressed; " * 200
left: list[int] = []  # the codes that WebSockets were left with


_BLOCK = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(2048))


def pattern(count: int) -> bytes:
    """So many bytes, of which none could be missed or doubled without being seen."""
    return (_BLOCK * (count // len(_BLOCK) + 1))[:count]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    length, digest, more = 0, hashlib.sha256(), True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        length += len(event.get("body", b""))
        digest.update(event.get("body", b""))
        more = event.get("more_body", False)
    path: str = scope["path"]
    kind, _, rest = path.removeprefix("/").partition("/")
    if kind == "events":
        await events(int(rest), send)
        return
    if kind == "raise":
        raise RuntimeError("as it was asked for")
    if kind == "wait":
        await asyncio.sleep(int(rest) / 1000)
    status, fields, reply = answer(kind, rest, scope, (length, digest.hexdigest()))
    if status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(reply)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply})


def answer(kind: str, rest: str, scope: Scope, body: tuple[int, str]) -> tuple[int, Fields, bytes]:
    """Status, fields and body; ``body`` is the request's length and SHA-256."""
    match kind:
        case "bytes":
            return 200, [(b"content-type", b"application/octet-stream")], pattern(int(rest))
        case "status":
            return int(rest), [(b"etag", b'"1"')], b""
        case "redirect":
            return 302, [(b"location", b"https://elsewhere.example/a?b=c")], b"gone there"
        case "gzip":
            return (
                200,
                [(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")],
                gzip.compress(PLAIN),
            )
        case "cookies":
            return 200, [(b"set-cookie", b"sid=abc; Path=/"), (b"set-cookie", b"theme=dark; Path=/")], b"ok"
        case "latin1":
            return 200, [(b"x-name", "Zoë".encode("latin-1"))], b"ok"
        case "fields":
            return 200, [(b"x-field-%d" % number, b"v") for number in range(int(rest))], b"ok"
        case "left":
            return 200, [(b"content-type", b"application/json")], json.dumps(left).encode()
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    if scope["query_string"] and b"?" not in target:
        target += b"?" + scope["query_string"]
    came = {
        "method": scope["method"],
        "target": target.decode("latin-1"),
        "fields": [[name.decode("latin-1"), text.decode("latin-1")] for name, text in scope["headers"]],
        "length": body[0],
        "sha256": body[1],
    }
    return 200, [(b"content-type", b"application/json")], json.dumps(came).encode()


async def events(count: int, send: Send) -> None:
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    for number in range(count):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body", "body": b""})


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    _, _, rest = scope["path"].removeprefix("/").partition("/")
    kind, _, number = rest.partition("/")
    if kind == "deny":
        await send({"type": "websocket.close", "code": 1000})
        return
    chosen = "chat" if "chat" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-app", b"up")]})
    if kind == "raise":
        raise RuntimeError("as it was asked for")
    if kind == "close":
        await send({"type": "websocket.close", "code": int(number), "reason": "bye"})
        return
    if kind == "push":
        await send({"type": "websocket.send", "bytes": pattern(int(number))})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
    left.append(event.get("code", 1005))
