"""A visitor that speaks TLS on a stream which a test joined in this process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from wellhead.wire.pair import PairStream, join
from wellhead.wire.streams import Buffer, HeadKind

Accept = Callable[[PairStream, bytes, bool], object]  # takes the far end and the first bytes


async def soon(true: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)


class TlsVisitor:
    """``heard`` is what came decrypted; ``said_goodbye`` that it ended with close_notify."""

    def __init__(self, context: ssl.SSLContext, hostname: str | None, accept: Accept) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.heard = bytearray()
        self.raw = bytearray()  # everything that came, as it came
        self.done = False  # the handshake
        self.error: ssl.SSLError | None = None
        self.said_goodbye = False
        self.ended = False
        self.reset: int | None = None
        self.reads = True  # credits what it hears
        self._owed = 0
        self._changed = asyncio.Event()
        self._waiting = b""  # to be sent when the handshake is done
        self._step()
        hello = self._outgoing.read()
        self.stream, far = join(len(hello))
        self.stream.sink = self
        accept(far, hello, False)

    async def until(self, true: Callable[[TlsVisitor], object]) -> TlsVisitor:
        """Wait for something about this visitor."""
        async with asyncio.timeout(20):
            while not true(self):
                self._changed.clear()
                await self._changed.wait()
        return self

    async def shaken(self) -> TlsVisitor:
        return await self.until(lambda v: v.done)

    def send(self, data: bytes) -> bool:
        """Encrypt and send; False where the other side wants it to stop."""
        self.tls.write(data)
        return self.stream.send(self._outgoing.read())

    def say_goodbye(self) -> None:
        """close_notify, and no more."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self.stream.send(self._outgoing.read())

    def read_on(self) -> None:
        """Credit what was heard while ``reads`` was False."""
        self.reads = True
        owed, self._owed = self._owed, 0
        self.stream.consumed(owed)

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        raise AssertionError("a head on a TCP stream")

    def on_data(self, data: Buffer, end: bool) -> None:
        self._incoming.write(data)
        self.raw += data
        self.ended = self.ended or end
        self._owed += len(data)
        if self.reads:
            self.read_on()
        self._step()
        self._changed.set()

    def on_reset(self, reason: int) -> None:
        self.reset = reason
        self._changed.set()

    def on_writable(self) -> None:
        self._changed.set()

    def _step(self) -> None:
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            if self._outgoing.pending:
                self.stream.send(self._outgoing.read())
            while piece := self.tls.read(65536):
                self.heard += piece
            self.said_goodbye = True
        except ssl.SSLWantReadError:
            if self._outgoing.pending and hasattr(self, "stream"):
                self.stream.send(self._outgoing.read())
        except ssl.SSLZeroReturnError:
            self.said_goodbye = True
        except ssl.SSLError as error:
            self.error = error
