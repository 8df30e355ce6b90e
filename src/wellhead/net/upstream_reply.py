"""A reply's head as an upstream connection needs it: what goes to the edge, and where the body ends."""

from __future__ import annotations

from typing import NamedTuple

from wellhead.net.upstream_request import UPGRADE
from wellhead.wire.body import Body, ChunkedBody, CloseBody, LengthBody
from wellhead.wire.h1 import Framing, parse_response
from wellhead.wire.headers import reply_head


class Reply(NamedTuple):
    raw: bytes  # as the upstream sent it, with the blank line
    asked: bytes  # what its meaning depends on: the request's method where that is HEAD, or "upgrade"
    status: int
    canonical: bytes  # as it travels to the edge
    length: int | None  # of the body; None where its end shows otherwise
    chunked: bool
    keep_alive: bool
    size: int  # bytes of ``raw``
    total: int  # bytes of the whole reply where it may end in one read and the connection go on, else -1

    def body(self) -> Body:
        """A decoder for the body behind this head."""
        if self.chunked:
            return ChunkedBody(status=502)
        return CloseBody() if self.length is None else LengthBody(self.length, status=502)


NO_REPLY = Reply(b"\0", b"", 0, b"", None, False, False, 0, -1)  # no head begins with NUL


def read_reply(head: bytes, asked: bytes) -> Reply:
    """Judge a response head.

    Raises:
        HttpError: 502: see ``wire.h1.parse_response``.
    """
    response = parse_response(head, asked, upgrade=asked is UPGRADE)
    length = 0 if response.framing is Framing.NONE else response.content_length
    ordinary = length is not None and response.keep_alive and response.status >= 200 and asked is not UPGRADE
    return Reply(
        head,
        asked,
        response.status,
        reply_head(response),
        length,
        response.framing is Framing.CHUNKED,
        response.keep_alive,
        len(head),
        len(head) + (length or 0) if ordinary else -1,
    )
