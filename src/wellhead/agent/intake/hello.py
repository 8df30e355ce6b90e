"""Hello on the HTTP/2 carrier: what the edge's answer means.

==========================  ============================================================
200 and a token             welcome
401, 403                    the credential is not good: final
409, ``hello-superseded``   another agent came later: final
404                         nobody knows the tunnel: asked again, ever more slowly
anything else               later, after what Retry-After says
==========================  ============================================================

Source: docs/reference/h2-carrier.md, "Hello".
"""

from __future__ import annotations

import json
from collections.abc import Callable

from wellhead.agent.intake.slots import seconds_of
from wellhead.errors import (
    Draining,
    HelloError,
    QuotaExceeded,
    RefusedError,
    Retry,
    SecretRejected,
    SessionLost,
    Superseded,
    WellheadError,
)
from wellhead.wire.h2 import Fields, H2Stream
from wellhead.wire.intake import Hello
from wellhead.wire.streams import Buffer

MAX_ANSWER = 64 * 1024  # bytes
MAX_DETAIL = 200  # characters of an edge's own words that are passed on
UNKNOWN_SECONDS = 30.0  # before a tunnel that nobody knows is asked for again
LONGEST_UNKNOWN_SECONDS = 300.0


class TunnelUnknown(RefusedError):
    """The edge knows no such tunnel. That may be a mistake of its own: it is asked again, but slowly."""

    retry = Retry.LATER
    code = "tunnel-unknown"


class HelloCall:
    """The sink of a hello; ``answered`` hears of a welcome, or why there is none."""

    def __init__(self, answered: Callable[[Hello | WellheadError], None], unknown: int) -> None:
        self.stream: H2Stream | None = None
        self._answered = answered
        self._unknown = unknown  # times that the tunnel was not known before
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()

    def on_headers(self, fields: Fields, end: bool) -> None:
        if fields[0][1][:1] == b"1":
            return
        if not self._fields:  # else trailers
            self._fields = dict(fields)
        if end:
            self._judge()

    def on_data(self, data: Buffer, end: bool) -> None:
        if self.stream is not None:
            self.stream.consumed(len(data))
        if len(self._body) <= MAX_ANSWER:
            self._body += data
        if end:
            self._judge()

    def on_reset(self, code: int) -> None:
        self._answered(HelloError(f"the edge reset the hello with HTTP/2 error {code}"))

    def on_writable(self) -> None:
        """Nothing is sent behind it."""

    def _judge(self) -> None:
        status = int(self._fields[b":status"])
        if status == 200:
            try:
                self._answered(Hello.read(bytes(self._body)))
            except HelloError as error:
                self._answered(error)
        else:
            self._answered(refusal(status, self._fields, bytes(self._body), self._unknown))


def refusal(status: int, fields: dict[bytes, bytes], body: bytes, unknown: int = 0) -> RefusedError:
    """The error of a hello that was answered with another status than 200."""
    said = f"the edge answers the hello with {status}"
    if detail := _detail(body):
        said = f"{said}, {detail}"
    if status in (401, 403):
        return SecretRejected(f"{said}: the credential is not good for this tunnel", retry=Retry.NEVER)
    if status == 409 and _member(body, "reason") == "hello-superseded":
        return Superseded("another agent answers for this tunnel", retry=Retry.NEVER)
    after = seconds_of(fields) or None
    if status == 404:
        slowly = min(UNKNOWN_SECONDS * 2.0 ** min(unknown, 16), LONGEST_UNKNOWN_SECONDS)
        return TunnelUnknown(
            f"{said}: it does not know this tunnel",
            retry=Retry.LATER,
            retry_after_seconds=max(after or 0.0, slowly),
        )
    kind = {429: QuotaExceeded, 503: Draining}.get(status, RefusedError)
    return kind(said, retry=Retry.LATER, retry_after_seconds=after)


def _detail(body: bytes) -> str:
    """What an edge says of it in words, empty where it says nothing that can be shown."""
    detail = _member(body, "detail")
    return detail if isinstance(detail, str) and len(detail) <= MAX_DETAIL and detail.isprintable() else ""


def _member(body: bytes, name: str) -> object:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return members.get(name) if isinstance(members, dict) else None


def is_superseded(code: int, debug: bytes) -> bool:
    """Whether a GOAWAY says that another agent has the tunnel."""
    return code == SUPERSEDED or (code != 0 and _member(debug, "reason") == "superseded")


SUPERSEDED = 0x1201


def ended(code: int) -> SessionLost:
    """The error of a session that the edge ended with this code."""
    return SessionLost(f"the edge ended the session with HTTP/2 error {code}")
