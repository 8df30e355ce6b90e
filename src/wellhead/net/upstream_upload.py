"""The body of a request on its way to the upstream: what each piece becomes, and when it is over."""

from __future__ import annotations

from typing import Protocol

from wellhead.errors import HttpError
from wellhead.wire.body import LAST_CHUNK, chunk, last_chunk
from wellhead.wire.headers import read_trailers
from wellhead.wire.streams import Buffer


class Upload(Protocol):
    """A body of which more is to come."""

    def feed(self, data: Buffer, end: bool) -> list[Buffer]:
        """What to write for a piece of it.

        Raises:
            HttpError: 400: it differs from what its head declared.
        """

    def trailers(self, block: bytes) -> list[Buffer]:
        """What to write at its end, where that has fields.

        Raises:
            HttpError: 400: as ``feed``, or the fields are malformed.
        """


class SizedUpload:
    """One of a declared length, still lacking ``left`` bytes."""

    __slots__ = ("_left",)

    def __init__(self, left: int) -> None:
        self._left = left

    def feed(self, data: Buffer, end: bool) -> list[Buffer]:
        self._left -= len(data)
        if self._left < 0 or (end and self._left):
            raise HttpError(400, "content-length", f"{-self._left} bytes more than declared")
        return [data] if data else []

    def trailers(self, block: bytes) -> list[Buffer]:
        return self.feed(b"", True)  # there is no room for them


class ChunkedUpload:
    """One of unknown length."""

    __slots__ = ()

    def feed(self, data: Buffer, end: bool) -> list[Buffer]:
        pieces = chunk(data)
        if end:
            pieces.append(LAST_CHUNK)
        return pieces

    def trailers(self, block: bytes) -> list[Buffer]:
        return [last_chunk(read_trailers(block, status=400))]


class DroppedUpload:
    """One that has no reader any more."""

    __slots__ = ()

    def feed(self, data: Buffer, end: bool) -> list[Buffer]:
        return []

    def trailers(self, block: bytes) -> list[Buffer]:
        return []


class HeldUpload:
    """What a visitor says before its upgrade is granted; kept for whoever goes on then."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: list[tuple[Buffer, bool]] = []

    def feed(self, data: Buffer, end: bool) -> list[Buffer]:
        self.said.append((data, end))
        return []

    def trailers(self, block: bytes) -> list[Buffer]:
        raise HttpError(400, "trailers", "of a request to switch")


DROPPED = DroppedUpload()
CHUNKED = ChunkedUpload()
