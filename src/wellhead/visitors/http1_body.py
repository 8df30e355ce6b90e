"""The body of a visitor's running request: what is still to come of it, and how fast it comes."""

from __future__ import annotations

from typing import Protocol

from wellhead.visitors import pace
from wellhead.visitors.pace import BodyPace
from wellhead.wire.body import Body, ChunkedBody, Fed, LengthBody
from wellhead.wire.headers import RequestFields


class Terms(pace.Terms, Protocol):
    """The limits of a body."""

    @property
    def max_trailer_bytes(self) -> int: ...
    @property
    def max_chunk_extension_bytes(self) -> int: ...


class RequestBody(BodyPace):
    """``expecting``: the visitor waits for 100 Continue before it sends any."""

    __slots__ = ("_decoder", "expecting")

    def __init__(self, decoder: Body, *, expecting: bool, now: float) -> None:
        super().__init__(now)
        self._decoder = decoder
        self.expecting = expecting

    @classmethod
    def of(cls, fields: RequestFields, terms: Terms, now: float) -> RequestBody | None:
        """The body that these fields announce, None where there is none."""
        decoder: Body
        if fields.chunked:
            decoder = ChunkedBody(400, terms.max_trailer_bytes, terms.max_chunk_extension_bytes)
        elif fields.content_length:
            decoder = LengthBody(fields.content_length)
        else:
            return None
        return cls(decoder, expecting=fields.expect_continue, now=now)

    @property
    def trailers(self) -> bytes:
        """Field lines behind the body; complete when it is."""
        return self._decoder.trailers

    def feed(self, data: bytes, now: float) -> Fed:
        """Take what the visitor sent.

        Raises:
            HttpError: 400, it is malformed.
        """
        self.expecting = False  # it did not wait any longer
        fed = self._decoder.feed(data)
        if fed.pieces:
            self.took(sum(map(len, fed.pieces)), now)
        return fed
