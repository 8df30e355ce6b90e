"""An agent in the test's own loop: a session whose requests it answers itself."""

from __future__ import annotations

import asyncio
import ssl

from wellhead.errors import WellheadError
from wellhead.net.dialling import dial_tls
from wellhead.net.session import Session
from wellhead.net.tls import ALPN_MUX
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello, Welcome
from wellhead.wire.mux import MuxStream, Role
from wellhead.wire.streams import Buffer, HeadKind, StreamKind


class Agent:
    """Answers each request with its target; one for ``/wait`` is ``held`` for the test to answer."""

    def __init__(self) -> None:
        self.welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self.draining = asyncio.Event()
        self.waiting = asyncio.Event()
        self.held: MuxStream | None = None
        self.targets: list[bytes] = []  # of all requests
        self.session = Session(
            Role.DIALLER, on_open=self._opened, on_control=self._control, on_lost=self._lost
        )
        self.session.on_peer_draining(lambda session, retry_after_ms: self.draining.set())

    def _control(self, session: Session, kind: int, payload: bytes) -> None:
        assert kind == Kind.WELCOME
        welcome = Welcome.decode(payload)
        session.mux.start(welcome.window)
        self.welcome.set_result(welcome)

    def _lost(self, session: Session, error: WellheadError | None) -> None: ...

    def _opened(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        stream.sink = self
        target = envelope.split(b" ")[1]
        self.targets.append(target)
        if target == b"/wait":
            self.held = stream
            self.waiting.set()
        else:
            answer(stream, target)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, reason: int) -> None: ...
    def on_writable(self) -> None: ...

    async def connect(self, port: int, trust: ssl.SSLContext, tunnel: str, secret: str) -> None:
        """Dial an edge on this machine, and be welcomed."""
        trust.set_alpn_protocols([ALPN_MUX])
        async with asyncio.timeout(5):
            await dial_tls(
                "localhost", port, context=trust, protocol_factory=lambda: self.session, alpn=ALPN_MUX
            )
            self.session.mux.control(Kind.HELLO, Hello(tunnel, secret).encode())
            await self.welcome


def answer(stream: MuxStream, body: bytes) -> None:
    """Reply 200 with this body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    stream.head(HeadKind.REPLY, head, body, True)
