"""An agent of the HTTP/2 carrier that answers as fast as it can: what is left is the edge's own work.

``python -m tests.kit.raw_agent HOST PORT CA TUNNEL_ID SECRET [POOL]`` prints ``ready`` and answers every
request with a short text, until it is ended.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import cast

from wellhead.net import loop
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.intake import SECRET, Caller, Hello
from wellhead.wire.streams import Buffer

BODY = b"hello from behind the edge\n"
TERMS = H2Terms(max_streams=0, window=1 << 20, connection_window=1 << 24)


class RawAgent(asyncio.Protocol):
    """One connection. ``welcomed``: hello was answered, and the pool is parked."""

    def __init__(self, caller: Caller, pool: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[Hello] = self._loop.create_future()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.answered = 0
        self._caller = caller
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._receiving = False
        self._h2 = H2Connection(
            H2Role.CLIENT,
            terms=TERMS,
            on_goaway=lambda last, code: None,
            wake=self._wake,
            clock=self._loop.time,
        )
        self._intake: Fields = []
        self._reply: Fields = [
            (b"inkbox-status", b"200"), (b"content-length", b"%d" % len(BODY)),
            (b"inkbox-h-content-type", b"text/plain"), (b"inkbox-h-server", b"raw"),
        ]  # fmt: skip
        self._done = _Done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.start()
        self._h2.open(self._caller.hello(self._pool), True, _HelloAnswer(self))

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        self._h2.receive(data)
        self._receiving = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._h2.lost()
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError("no welcome"))
        if not self.over.done():
            self.over.set_result(None)

    def _wake(self) -> None:
        if not self._receiving:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._transport is not None:
            while pieces := self._h2.take(1 << 20):
                self._transport.write(b"".join(pieces))

    def welcome(self, hello: Hello) -> None:
        self._intake = self._caller.intake(0, hello.owner_token.encode())
        for _ in range(hello.pool):
            self.park()
        self.welcomed.set_result(hello)

    def park(self) -> None:
        self._h2.open(self._intake, True, _Intake(self))

    def answer(self, request_id: bytes) -> None:
        self.answered += 1
        own = [*self._caller.response(request_id), self._reply[0], (b"inkbox-request-id", request_id)]
        stream = self._h2.open(own + self._reply[1:], False, self._done)
        stream.data(BODY, True)


class _Done:
    """The acknowledgement of a reply."""

    def on_headers(self, fields: Fields, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_writable(self) -> None: ...


class _HelloAnswer(_Done):
    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self._body = b""

    def on_data(self, data: Buffer, end: bool) -> None:
        self._body += data
        if end:
            self._agent.welcome(Hello.read(self._body))


class _Intake(_Done):
    """One parked intake. The body of a request is read away."""

    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self._id = b""
        self.stream: H2Stream | None = None

    def on_headers(self, fields: Fields, end: bool) -> None:
        self._id = next((value for name, value in fields if name == b"inkbox-request-id"), b"")
        if end:
            self._over()

    def on_data(self, data: Buffer, end: bool) -> None:
        if end:
            self._over()

    def _over(self) -> None:
        self._agent.park()
        if self._id:
            self._agent.answer(self._id)


async def dial(
    host: str, port: int, ca: Path, tunnel_id: str, secret: str, *, pool: int = 32, user_agent: str = ""
) -> RawAgent:
    """A welcomed agent."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    caller = Caller(
        f"{host}:{port}".encode(),
        tunnel_id.encode(),
        (SECRET, secret.encode()),
        user_agent=user_agent.encode(),
    )
    _, agent = await asyncio.get_running_loop().create_connection(
        lambda: RawAgent(caller, pool), "127.0.0.1", port, ssl=context, server_hostname=host
    )
    await agent.welcomed
    return agent


async def _main(host: str, port: str, ca: str, tunnel_id: str, secret: str, pool: str = "32") -> None:
    agent = await dial(
        host, int(port), Path(ca), tunnel_id, secret, pool=int(pool), user_agent="wellhead-raw/1"
    )
    print("ready", flush=True)
    await agent.over


if __name__ == "__main__":
    loop.run(_main(*sys.argv[1:]))
