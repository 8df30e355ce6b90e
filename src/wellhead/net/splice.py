"""Bytes both ways between a stream and a socket, and nobody looks into them.

::

    stream  on_data ─────────> transport.write     acknowledged when the transport has let them go
            send    <───────── data_received       paused while the stream takes no more

Each half ends on its own: an end of the stream becomes a FIN and the other way round, a reset an RST.
"""

from __future__ import annotations

import asyncio
import select

from wellhead.net.socket_options import reset_on_close
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream


class Splice(asyncio.Protocol):
    """The sink of one stream and the protocol of one connection, for life.

    A subclass says when either begins, and what it means that they are over.
    """

    __slots__ = (
        "_held_up", "_owed", "_paused", "_socket_end", "_stream", "_stream_end", "_transport",
        "from_socket", "from_stream",
    )  # fmt: skip

    def __init__(self) -> None:
        self._stream: Stream | None = None  # None: not there yet, or over
        self._transport: asyncio.Transport | None = None
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        self._paused = False  # the socket's peer does not read
        self._held_up = False  # the stream does not take more: we do not read
        self._stream_end = False  # the stream's half that comes to us is complete
        self._socket_end = False  # the socket's is
        self.from_stream = 0  # bytes
        self.from_socket = 0

    # What a subclass says

    def _over(self, reason: int | None) -> None:
        """The stream is over, for a reason or as it should be: ``_stream`` is None after it."""
        raise NotImplementedError

    def _unconnected(self, data: Buffer, end: bool) -> None:
        """The stream sent something while there is no connection."""
        raise NotImplementedError

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._fail(Reason.PROTOCOL)

    def on_data(self, data: Buffer, end: bool) -> None:
        count = len(data)
        self.from_stream += count
        transport = self._transport
        if transport is None:
            self._unconnected(data, end)
            return
        if count:
            transport.write(data)
            if self._paused:
                self._owed += count
            elif self._stream is not None:
                self._stream.consumed(count)
        if end:
            self._stream_end = True
            self._end_ours(transport)

    def on_reset(self, reason: int) -> None:
        self._over(reason)
        self._cut()

    def on_writable(self) -> None:
        if self._held_up and self._transport is not None:
            self._held_up = False
            self._transport.resume_reading()

    # The transport's protocol

    def data_received(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        self.from_socket += len(data)
        if not stream.send(data) and self._transport is not None:
            self._held_up = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._socket_end = True
        if self._stream is not None:
            self._stream.send(b"", True)
        if self._stream_end:
            self._over(None)
            return False
        # TLS has no half-close: both ways end at once.
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        owed, self._owed = self._owed, 0
        if owed and self._stream is not None:
            self._stream.consumed(owed)

    # Ends

    def _end_ours(self, transport: asyncio.Transport) -> None:
        """The stream's half is complete: so is ours, behind what is still to be written."""
        if self._socket_end or not transport.can_write_eof():
            transport.close()
            if self._socket_end:
                self._over(None)
        else:
            transport.write_eof()

    def _fail(self, reason: Reason) -> None:
        """Give both up, at once."""
        stream = self._stream
        self._over(reason)
        if stream is not None:
            stream.reset(reason)
        self._cut()

    def _cut(self) -> None:
        """End the connection so that its peer does not take it for an end."""
        if self._transport is not None:
            reset_on_close(self._transport)
            self._transport.abort()

    def _check_reset(self) -> None:
        """Nobody tells of the peer's RST while nothing is read: asked for a few times a second."""
        transport = self._transport
        if self._held_up and transport is not None and is_reset(transport):
            transport.abort()


def is_reset(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has sent an RST."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # errors are told unasked; a hang-up is two FINs, and bytes may wait
    return any(told & select.POLLERR for _, told in poll.poll(0))
