"""The body of a visitor's running request: what is still to come of it, and how fast it comes."""

from __future__ import annotations

from typing import Protocol

from wellhead.wire.body import Body, ChunkedBody, Fed, LengthBody
from wellhead.wire.headers import RequestFields


class Terms(Protocol):
    """The limits of a body."""

    @property
    def max_trailer_bytes(self) -> int: ...
    @property
    def max_chunk_extension_bytes(self) -> int: ...
    @property
    def body_idle_seconds(self) -> float: ...
    @property
    def body_min_bytes_per_second(self) -> float: ...
    @property
    def body_grace_seconds(self) -> float: ...


class RequestBody:
    """``expecting``: the visitor waits for 100 Continue before it sends any.

    ``taken``: payload bytes since the clock was last started.
    """

    __slots__ = ("_began", "_decoder", "_heard", "_terms", "expecting", "taken")

    def __init__(self, decoder: Body, terms: Terms, *, expecting: bool, now: float) -> None:
        self._decoder = decoder
        self._terms = terms
        self.expecting = expecting
        self.restart(now)

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
        return cls(decoder, terms, expecting=fields.expect_continue, now=now)

    @property
    def trailers(self) -> bytes:
        """Field lines behind the body; complete when it is."""
        return self._decoder.trailers

    def restart(self, now: float) -> None:
        """Start the clock anew: until now it was not the visitor that we waited for."""
        self._began = self._heard = now
        self.taken = 0

    def feed(self, data: bytes, now: float) -> Fed:
        """Take what the visitor sent.

        Raises:
            HttpError: 400, it is malformed.
        """
        self.expecting = False  # it did not wait any longer
        fed = self._decoder.feed(data)
        if fed.pieces:
            self._heard = now
            self.taken += sum(map(len, fed.pieces))
        return fed

    def is_slow(self, now: float) -> bool:
        """Whether the visitor said nothing for too long, or too little in all."""
        terms = self._terms
        lasted = now - self._began
        return now - self._heard >= terms.body_idle_seconds or (
            lasted >= terms.body_grace_seconds and self.taken < terms.body_min_bytes_per_second * lasted
        )
