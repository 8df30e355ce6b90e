"""Replies: the agent's canonical head, the edge's check of it, and the head a visitor gets.

An agent belongs to a tenant and may be hostile; nothing of its head reaches a visitor unread.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.fields import content_length
from wellhead.wire.h1 import ResponseHead, read_response

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
"""Reason phrases, for replies that came without one."""


class ReplyFacts(NamedTuple):
    """A verified reply head."""

    status: int
    content_length: int | None  # None: unknown, or none is to be told
    bodyless: bool  # nothing may follow: HEAD, 204, 304, 101
    extensions: bool  # a 101 that negotiated WebSocket extensions
    reason: bytes
    fields: bytes  # end-to-end lines in order, without framing


def reply_head(response: ResponseHead) -> bytes:
    """The canonical reply head that an agent sends. Source: docs/reference/wire.md, "HTTP envelopes"."""
    if response.content_length is None:
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.reason, response.fields)
    return b"HTTP/1.1 %d %b\r\nContent-Length: %d\r\n%b\r\n" % (
        response.status, response.reason, response.content_length, response.fields,
    )  # fmt: skip


def read_reply(head: bytes, method: bytes, *, upgrade: bool = False) -> ReplyFacts:
    """Verify a reply head that an agent sent to a request of this method.

    ``upgrade``: the request was a WEBSOCKET stream, which alone permits 101. A pure function.

    Raises:
        HttpError: 502: malformed, over a limit, a framing of its own, an interim status, or an unasked 101.
    """
    status, reason, _, found, fields, _ = read_response(head)
    if status < 200 and not (status == 101 and upgrade):
        raise HttpError(502, "unasked-switch" if status == 101 else "interim-reply")
    if b"transfer-encoding" in found:
        raise HttpError(502, "transfer-encoding")
    length = content_length(found[b"content-length"], 502) if b"content-length" in found else None
    if status == 101:
        return ReplyFacts(101, None, True, _has_extensions(fields), reason, fields)
    if status == 204:
        return ReplyFacts(204, None, True, False, reason, fields)
    return ReplyFacts(status, length, status == 304 or method == b"HEAD", False, reason, fields)


def _has_extensions(fields: bytes) -> bool:
    return b"\r\nsec-websocket-extensions:" in b"\r\n" + fields.lower()


def read_interim(head: bytes) -> bytes:
    """Verify a 1xx head that an agent sent; returns it as the visitor gets it.

    Raises:
        HttpError: 502: malformed, not 1xx, or 101.
    """
    status, reason, _, _, fields, _ = read_response(head)
    if status >= 200 or status == 101:
        raise HttpError(502, "not-interim")
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, fields)


class VisitorHead(NamedTuple):
    """The head for a visitor, and what it promised."""

    head: bytes
    chunked: bool  # the body goes out in chunks
    keep_alive: bool  # False: the connection closes behind the body


def visitor_head(
    facts: ReplyFacts, *, http11: bool = True, keep_alive: bool = True, extra: bytes = b""
) -> VisitorHead:
    """The response head for a visitor's HTTP/1.1 or 1.0 connection, with the one framing field it needs (C5).

    ``keep_alive``: the visitor wants it and we agree. ``extra``: complete lines of our own. A pure function.
    """
    status, length, bodyless = facts.status, facts.content_length, facts.bodyless
    chunked = False
    framing: bytes = b""
    if status == 101:
        framing = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    elif not bodyless:
        chunked = http11
        keep_alive = keep_alive and http11
        framing = b"Transfer-Encoding: chunked\r\n" if http11 else b""
    if status == 101:
        keep_alive = False
    elif not keep_alive:
        framing += b"Connection: close\r\n"
    elif not http11:
        framing += b"Connection: keep-alive\r\n"
    head = b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (status, facts.reason, facts.fields, extra, framing)
    return VisitorHead(head, chunked, keep_alive)
