"""HTTP/1.1 bodies: where they end, and their bytes without the framing.

All decoders have one face. ``feed`` takes what the network brought and gives payload pieces in
order; ``done`` tells that the body is over, and then ``Fed.rest`` holds the bytes behind it.
Payload is not joined and, above ``VIEW`` bytes, not copied.

Source: RFC 9112 sections 6 and 7.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from wellhead.errors import HttpError
from wellhead.wire.fields import TCHAR, read_trailers
from wellhead.wire.streams import Buffer

VIEW = 16 * 1024  # bytes: from here on a view is cheaper than a copy
MAX_EXTENSION = 256  # bytes, of one chunk, with its semicolons

_QUOTED = rb"\"(?:[\t\x20!\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+\""
_EXTENSION = rb";[%b]++(?:=(?:[%b]++|%b))?+" % (TCHAR, TCHAR, _QUOTED)
_size_line = re.compile(rb"([0-9A-Fa-f]{1,16}+)((?:%b)*+)\r\n" % _EXTENSION).match
_hex = rb"[0-9A-Fa-f]"
# What may still become a good first line; the extension is judged when it is whole.
_size_start = re.compile(rb"%b{0,16}+(?:(?<=%b);[\t\x20-\x7e\x80-\xff]*+)?+\r?" % (_hex, _hex)).fullmatch


class Fed(NamedTuple):
    """What one ``feed`` gave."""

    pieces: list[Buffer]  # payload, in order; none of them empty
    done: bool  # the body is over
    rest: bytes  # bytes behind the body; only where done


class Body(Protocol):
    """The face of all decoders."""

    done: bool
    trailers: bytes  # field lines that may be passed on; complete when done

    def feed(self, data: bytes) -> Fed: ...

    def eof(self) -> None:
        """The connection ended. Raises HttpError if the body is not whole; it is ``done`` otherwise."""


def piece_of(data: bytes, start: int, end: int) -> Buffer:
    """A part of ``data``: itself where it is all of it, a view where it is large, else a copy."""
    if start == 0 and end == len(data):
        return data
    return memoryview(data)[start:end] if end - start > VIEW else data[start:end]


class LengthBody:
    """A body of ``length`` bytes. ``status`` is that of the error if it is cut off."""

    __slots__ = ("_status", "done", "left", "trailers")

    def __init__(self, length: int, status: int = 400) -> None:
        self.left = length  # bytes still to come
        self.done = not length
        self.trailers = b""
        self._status = status

    def feed(self, data: bytes) -> Fed:
        size = len(data)
        if size < self.left:  # fast path: all of it belongs to the body, more will come
            self.left -= size
            return Fed([data] if size else [], False, b"")
        end, self.left, self.done = self.left, 0, True
        return Fed([piece_of(data, 0, end)] if end else [], True, data[end:])

    def eof(self) -> None:
        if not self.done:
            raise HttpError(self._status, "truncated-body", f"{self.left} bytes are missing")


class CloseBody:
    """A body that ends with the connection: only a response may have one."""

    __slots__ = ("done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers = b""

    def feed(self, data: bytes) -> Fed:
        return Fed([data] if data else [], False, b"")

    def eof(self) -> None:
        self.done = True


_SIZE = 0  # the first line of a chunk comes next
_TRAILERS = -1  # the trailer section comes next
_OVER = -2  # nothing more comes


class ChunkedBody:
    """A chunked body, read strictly (A5, A7): what two parsers could read in two ways is refused.

    ``status`` is that of its errors: 400 for a visitor's body, 502 for an upstream's.
    """

    __slots__ = ("_held", "_left", "_max_extension", "_max_trailers", "_status", "done", "trailers")

    def __init__(
        self, status: int = 400, max_trailers: int = 8192, max_extension: int = MAX_EXTENSION
    ) -> None:
        self.done = False
        self.trailers = b""
        self._status = status
        self._max_trailers = max_trailers  # bytes
        self._max_extension = max_extension  # bytes
        self._held = b""  # an incomplete line, or the incomplete trailers
        self._left = _SIZE  # payload of this chunk, counting its CRLF as two more; or a state below zero

    def feed(self, data: bytes) -> Fed:
        """Raises:
        HttpError: ``status``: malformed. The connection is of no more use.
        """
        if self.done:
            return Fed([], True, data)
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[Buffer] = []
        at = 0
        size = len(data)
        while at < size:
            if self._left > 2:
                end = at + self._left - 2
                if end > size:
                    end = size
                pieces.append(piece_of(data, at, end))
                self._left -= end - at
                at = end
            elif self._left > 0:
                at = self._chunk_end(data, at)
            elif self._left == _SIZE:
                at = self._chunk_start(data, at)
            else:
                at = self._trailers(data, at)
                if self._left == _OVER:
                    return Fed(pieces, True, data[at:])
        return Fed(pieces, False, b"")

    def _chunk_start(self, data: bytes, at: int) -> int:
        match = _size_line(data, at)
        if match is None:
            return self._hold_line(data, at)
        if match.end(2) - match.start(2) > self._max_extension:
            raise self._fault("chunk-extension")
        length = int(match[1], 16)
        self._left = length + 2 if length else _TRAILERS
        return match.end()

    def _hold_line(self, data: bytes, at: int) -> int:
        """Keep an incomplete first line of a chunk, if it may still become a good one."""
        longest = 16 + self._max_extension  # bytes of a chunk's first line, without CRLF
        start = data[at : at + longest + 2]
        if b"\n" in start or len(start) > longest + 1 or not _size_start(start):
            raise self._fault("chunk-size" if b";" not in start else "chunk-extension")
        self._held = start
        return len(data)

    def _chunk_end(self, data: bytes, at: int) -> int:
        expected = b"\r\n"[2 - self._left :]
        got = data[at : at + self._left]
        if got != expected[: len(got)]:
            raise self._fault("chunk-end")
        self._left -= len(got)
        if not self._left:
            self._left = _SIZE
        return at + len(got)

    def _trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return self._end(at + 2)
        limit = self._max_trailers
        blank = data.find(b"\r\n\r\n", at, at + limit + 4)
        if blank < 0:
            self._held = data[at:]
            if len(self._held) >= limit + 4:
                raise self._fault("trailers-too-large")
            if self._held.count(b"\n") != self._held.count(b"\r\n"):
                raise self._fault("trailers")
            return len(data)
        self.trailers = read_trailers(data[at : blank + 2], max_bytes=limit, status=self._status)
        return self._end(blank + 4)

    def _end(self, at: int) -> int:
        self.done = True
        self._left = _OVER
        return at

    def _fault(self, reason: str) -> HttpError:
        return HttpError(self._status, reason)

    def eof(self) -> None:
        if not self.done:
            raise HttpError(self._status, "truncated-body")


LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: Buffer) -> list[Buffer]:
    """One chunk, ready to write; nothing at all for no data, because an empty chunk ends a body."""
    size = len(data)
    if size > VIEW:
        return [b"%x\r\n" % size, data, b"\r\n"]
    return [b"".join((b"%x\r\n" % size, data, b"\r\n"))] if size else []


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body; ``trailers`` are field lines, each ending in CRLF."""
    return b"0\r\n%b\r\n" % trailers if trailers else LAST_CHUNK
