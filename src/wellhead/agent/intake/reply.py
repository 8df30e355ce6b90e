"""A reply on its way to the edge: one ``POST /_system/response/{id}``.

Source: docs/reference/h2-carrier.md, "Replies".
"""

from __future__ import annotations

from typing import Protocol

from wellhead.agent.intake.call import Call, Opener
from wellhead.logs import Log
from wellhead.wire.h2 import Fields
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.intake import RESPONSE_PATH, Caller, reply_fields
from wellhead.wire.streams import Buffer

_log = Log("wellhead.agent")
_REMEMBERED = 256  # heads
_REMEMBERED_BYTES = 4096  # longest head remembered
_PATH = b":path"


class Replier(Protocol):
    """Whose reply it is."""

    def posted(self) -> None:
        """The edge has all of it."""

    def not_wanted(self) -> None:
        """The edge takes no more of it."""

    def on_writable(self) -> None:
        """After a ``send`` that returned False: go on."""


class Post(Call):
    """See the module. One that was whole when it was opened is repeated if the edge never looked at it."""

    __slots__ = ("_acknowledged", "_replier", "_session", "_whole")

    def __init__(self, session: Opener, fields: Fields, replier: Replier, more: Fields | None = None) -> None:
        super().__init__(fields, more)
        self._session = session
        self._replier = replier
        self._acknowledged = False
        self._whole: Buffer | None = None

    def post(self, data: Buffer, end: bool) -> bool:
        """Open it with the first bytes of its body."""
        if end:
            self._whole = data
        return self.begin(self._session, data, end)

    def on_headers(self, fields: Fields, end: bool) -> None:
        status = fields[0][1]
        if status[:1] == b"2":
            self._acknowledged = True
            if end:
                self._answered()
        elif status[:1] != b"1":
            _log.debug("reply not taken", status=int(status))
            self._refused()

    def on_data(self, data: Buffer, end: bool) -> None:
        if self.stream is not None:
            self.stream.consumed(len(data))
        if end:
            self._answered()

    def on_reset(self, code: int) -> None:
        if code == ErrorCode.REFUSED_STREAM and self._whole is not None and not self._over:
            self.stream = None
            self.begin(self._session, self._whole, True)
        elif self._acknowledged and self.ended:
            self._answered()
        else:
            self._refused()

    def on_writable(self) -> None:
        self._replier.on_writable()

    def given_up(self) -> None:
        self._refused()

    def _answered(self) -> None:
        if not self._over:
            if self.ended:
                self._over = True
                self._replier.posted()
            elif not self._acknowledged:
                self._refused()

    def _refused(self) -> None:
        if not self._over:
            self.reset()
            self._replier.not_wanted()


class ReplyHeads:
    """Makes header lists of reply heads; servers repeat their heads byte for byte.

    A list comes in two parts, and what replies have in common is the same second part each time: neither the
    encoder nor the edge has to look at it again.
    """

    __slots__ = ("_caller", "_known")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: dict[tuple[bytes, int | None, bool], tuple[Fields, Fields]] = {}

    def fields(
        self, head: bytes, request_id: bytes, length: int | None, bodyless: bool
    ) -> tuple[Fields, Fields]:
        """As ``wire.intake.reply_fields``.

        Raises:
            HttpError: 502: the head is malformed.
        """
        key = head, length, bodyless
        known = self._known.get(key)
        if known is None:
            made = reply_fields(head, b"", self._caller, length=length, bodyless=bodyless)
            at = [name for name, _ in made].index(_PATH)
            rest = [field for field in made[at + 1 :] if field[0] != b"inkbox-request-id"]
            known = made[:at], rest
            if len(head) <= _REMEMBERED_BYTES:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        first, rest = known
        return [*first, (_PATH, RESPONSE_PATH + request_id), (b"inkbox-request-id", request_id)], rest

    def accepted(self, head: bytes, request_id: bytes) -> Fields:
        """Of the 101 that an upstream answers an upgrade with; it has no body.

        Raises:
            HttpError: 502: the head is malformed.
        """
        return reply_fields(head, request_id, self._caller, length=0)

    def failure(self, status: int, reason: bytes, length: int, request_id: bytes) -> Fields:
        """Of an answer of the agent's own."""
        head = b"HTTP/1.1 %d \r\nContent-Type: text/plain\r\n\r\n" % status
        return reply_fields(head, request_id, self._caller, length=length, reason=reason)
