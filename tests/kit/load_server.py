"""An upstream for loads: says who it is in every answer, so that an answer of somebody else's is seen.

``python -m tests.kit.load_server NAME...`` prints a port for each. Every reply has ``X-Upstream: NAME``.

* ``/echo/…``: the target itself; a body is sent back in its stead
* ``/wait/MS``: the same, after so many milliseconds
* ``/work/MS``: the same, by one of ``WORKERS`` workers, who do one thing at a time
* ``/bytes/COUNT``: so many bytes
* ``/events/MS``: server-sent events, one in so many milliseconds: number, and when it was sent
* ``/page``: a page of HTML
* ``/ws``: a WebSocket that sends every message back
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from aiohttp import WSMsgType, web

IDENTITY = "X-Upstream"
WORKERS = 8


class Upstream:
    """The handlers of one server."""

    def __init__(self, name: str) -> None:
        self._fields = {IDENTITY: name}
        self._workers = asyncio.Semaphore(WORKERS)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/echo{rest:.*}", self.echo),
            web.route("*", "/wait/{ms}{rest:.*}", self.wait),
            web.route("*", "/work/{ms}{rest:.*}", self.work),
            web.get("/bytes/{count}", self.bytes),
            web.get("/events/{ms}", self.events),
            web.get("/page", self.page),
            web.get("/ws", self.websocket),
        ]

    async def echo(self, request: web.Request) -> web.Response:
        body = await request.read() if request.can_read_body else request.path_qs.encode()
        return web.Response(body=body, headers=self._fields)

    async def wait(self, request: web.Request) -> web.Response:
        await asyncio.sleep(int(request.match_info["ms"]) / 1000)
        return await self.echo(request)

    async def work(self, request: web.Request) -> web.Response:
        async with self._workers:
            return await self.wait(request)

    async def bytes(self, request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["count"])
        reply = web.StreamResponse(headers=self._fields | {"Content-Length": str(left)})
        await reply.prepare(request)
        piece = bytes(65536)
        with contextlib.suppress(ConnectionError):
            while left > 0:
                await reply.write(piece[: min(left, len(piece))])
                left -= len(piece)
        return reply

    async def events(self, request: web.Request) -> web.StreamResponse:
        every = int(request.match_info["ms"]) / 1000
        reply = web.StreamResponse(headers=self._fields | {"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        number = 0
        with contextlib.suppress(ConnectionError):
            while True:
                await reply.write(b"data: %d %.6f\n\n" % (number, time.monotonic()))
                number += 1
                await asyncio.sleep(every)
        return reply

    async def page(self, request: web.Request) -> web.Response:
        text = f"<!doctype html><title>{self._fields[IDENTITY]}</title>"
        return web.Response(text=text, content_type="text/html", headers=self._fields)

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        socket.headers.update(self._fields)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket


async def serve(name: str) -> None:
    app = web.Application()
    app.add_routes(Upstream(name).routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print("port", runner.addresses[0][1], flush=True)


async def main(names: list[str]) -> None:
    for name in names:
        await serve(name)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
