"""What the edge answers to the carrier's own requests, where it is not an envelope.

Agents read the status, some of them ``reason`` of the body or ``inkbox-reason``; nobody reads more.

Source: docs/reference/h2-carrier.md, "Answers".
"""

from __future__ import annotations

import json

from wellhead.wire.h2 import H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields
from wellhead.wire.streams import Buffer

DONE: Fields = [(b":status", b"200")]
"""A reply was taken, or an intake ends without an envelope: the agent parks the next one and says nothing."""
IDLE: Fields = [(b":status", b"408"), (b"inkbox-reason", b"intake-idle-cap")]
SUPERSEDED: Fields = [(b":status", b"409"), (b"inkbox-reason", b"intake-superseded")]
NO_SESSION: Fields = [(b":status", b"401"), (b"inkbox-reason", b"owner-token-invalid")]
UNKNOWN: Fields = [(b":status", b"404")]
LATE: Fields = [(b":status", b"410")]


class Deaf:
    """The sink of a request whose body nobody wants: it is read to its end, because some agents cannot be
    told to stop. ``stream`` is the request's."""

    __slots__ = ("_stream",)

    def __init__(self, stream: H2Stream) -> None:
        self._stream = stream

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Trailers."""

    def on_data(self, data: Buffer, end: bool) -> None:
        self._stream.consumed(len(data))

    def on_reset(self, code: int) -> None:
        """Nobody is told."""

    def on_writable(self) -> None:
        """Nothing waits."""


def end(stream: H2Stream, fields: Fields) -> None:
    """Answer with a head alone; what comes of a body is read away."""
    stream.sink = Deaf(stream)
    stream.headers(fields, True)


def refuse(
    stream: H2Stream, status: int, text: str, *, whole: bool, retry_after: float = 0, reason: str = ""
) -> None:
    """Answer with a status and why. ``whole``: the request has come; else its rest is not wanted."""
    members = {"detail": text}
    if reason:
        members["reason"] = reason
    body = json.dumps(members, separators=(",", ":")).encode()
    fields: Fields = [(b":status", b"%d" % status), (b"content-type", b"application/json")]
    if retry_after:
        fields.append((b"retry-after", b"%d" % max(1, round(retry_after))))
    stream.sink = Deaf(stream)
    stream.headers(fields)
    stream.data(body, True)
    if not whole:
        stream.reset(ErrorCode.NO_ERROR)
