"""One request and its reply, between a visitor's connection and a stream.

An exchange is the stream's sink and the visitor's partner. It knows nothing of HTTP versions: the
visitor's side writes heads and bodies in its own way. It holds the rules that every visitor is owed:
a reply is verified before a byte of it goes out; what breaks before the head becomes a page, what
breaks after it becomes a truncation that the visitor can see, never a clean end; bytes are credited
to the agent when they have left for the visitor; one access line at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from wellhead.errors import HttpError
from wellhead.visitors import pages, port_pages
from wellhead.visitors.access import Fields
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.cookies import confined
from wellhead.wire.headers import ReplyFacts, read_interim, read_reply, read_trailers
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind
from wellhead.wire.ws import check_accept

_HTTP, _REPLY = StreamKind.HTTP, HeadKind.REPLY  # bound once, for the path of every request

PAGES: Mapping[int, Page] = {
    Reason.REFUSED: pages.BUSY,
    Reason.UPSTREAM_UNREACHABLE: pages.UNREACHABLE,
    Reason.UPSTREAM_FAILED: pages.BROKEN,
    Reason.TIMEOUT: pages.TIMEOUT,
    Reason.OVERLOADED: pages.BUSY,
    Reason.SESSION_LOST: pages.LOST,
    Reason.REMOVED: pages.UNKNOWN,
    Reason.TOO_LARGE: pages.for_status(413, "body-too-large"),
    Reason.HEAD_TOO_LARGE: pages.for_status(431, "envelope-too-large"),
    Reason.NO_SLOT: pages.BUSY._replace(reason="no-slot"),
}
# What the control plane refuses for a limit or for who asks, by status; a mistake of a caller has no word.
_API_REFUSALS = {401: "api-key", 413: "api-body", 429: "api-rate", 503: "api-unavailable"}
_API_LIMITS = {
    "api-key-rate",
    "api-address-rate",
    "api-failures",
    "api-tunnels",
    "api-keys",
    "api-sandboxes",
    "api-snapshots",
    "api-hosts",
    "api-event-streams",
    "csr-rate",
    "issue-budget",
    "issue-budget-name",
    "issue-budget-organization",
    "issue-pause",
}
_api_limit = re.compile(rb"(?im)^x-limit:[\t ]*([a-z-]+)").search
_AWAY = {Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_FAILED}  # for the control plane: it just ended


class Door(Protocol):
    """Whatever streams can be opened on: a session, or the control plane's own."""

    @property
    def carrier(self) -> str:
        """What a session is carried by: "mux", "h2"; empty for what is no session."""

    def open(
        self,
        kind: StreamKind,
        envelope: bytes,
        sink: Sink,
        data: Buffer = b"",
        end: bool = False,
        *,
        interactive: bool = False,
    ) -> Stream: ...


class Visitor(Protocol):
    """The visitor's side of an exchange; one for each HTTP version."""

    peer: str
    choked: bool  # the visitor reads too slowly: no credit for the agent now

    def send_interim(self, head: bytes) -> None: ...
    def send_reply(self, facts: ReplyFacts, data: Buffer, end: bool) -> None: ...
    def send_body(self, data: Buffer, end: bool) -> None: ...
    def send_trailers(self, fields: bytes) -> None: ...
    def send_page(self, page: Page) -> None: ...
    def cut(self, *, short: bool) -> None:
        """End the reply so that the visitor can see that it is not whole.

        ``short``: it was promised a length, so that any end shows it.
        """

    def upgrade(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        """The upstream answered 101: from now on bytes; ``end`` says that ``data`` are all of its."""

    def resume_upload(self) -> None: ...
    def finished(self, now: float) -> None:
        """The exchange is over at loop time ``now``: the next request may begin."""


class Terms(Protocol):
    """The limits of a reply."""

    @property
    def max_interim_heads(self) -> int: ...
    @property
    def max_reply_head_bytes(self) -> int: ...
    @property
    def reply_seconds(self) -> float: ...
    @property
    def sandbox_reply_seconds(self) -> float: ...


class Keeper(Protocol):
    """What all exchanges of a program share."""

    clock: Callable[[], float]  # loop seconds

    def note(self, fields: Fields, /) -> None:
        """Take the access line."""

    @property
    def terms(self) -> Terms: ...
    def another(self, name: str, refused: Door | None) -> Door | None:
        """A session of a tunnel that is not the one which refused."""


class Exchange:
    """See the module."""

    # Defaults of the class, not of each object: most exchanges never touch most of them.
    stream: Stream | None = None
    status = 0  # of the reply that went to the visitor
    bytes_in = 0
    bytes_out = 0
    first_byte = 0.0
    uploaded = False  # the request is complete
    over = False
    reason = ""
    _line: Memo | None = None
    _door: Door | None = None
    _carrier = ""
    _envelope = b""  # of a request without a body, which may be sent again if it was refused unheard
    _left = -1  # body bytes still to come by Content-Length, -1 if not told
    owed = 0  # bytes handed to a choked visitor, not yet credited
    _interims = 0
    _late_at = 0.0  # see ``late_at``
    _websocket_key = b""  # there where the visitor asked for a WebSocket: 101 is an answer

    def __init__(
        self,
        visitor: Visitor,
        method: bytes,
        target: bytes,
        request_id: bytes,
        place: str,
        name: str,
        house: Keeper,
    ) -> None:
        self.visitor = visitor
        self.method = method
        self.target = target
        self.request_id = request_id
        self.place = place
        self.name = name
        self._house = house
        self.began = self.progress = house.clock()

    def open_whole(self, door: Door, line: Memo | None, envelope: bytes) -> None:
        """Send a request without a body on its way: if it is refused unheard, another session may get it."""
        if line is not None:
            line.exchanges += 1
            self._line = line
        self.uploaded = True
        self._door, self._envelope = door, envelope
        self._carrier = door.carrier
        self.stream = door.open(_HTTP, envelope, self, b"", True)

    def open(self, door: Door, line: Memo | None, kind: StreamKind, envelope: bytes) -> None:
        """Send a request on its way whose body follows."""
        if line is not None:
            line.exchanges += 1
            self._line = line
        self._carrier = door.carrier
        self.stream = door.open(kind, envelope, self, interactive=kind is StreamKind.WEBSOCKET)

    def open_websocket(self, door: Door, line: Memo | None, envelope: bytes, key: bytes) -> None:
        """Ask for a WebSocket; ``key`` is the visitor's Sec-WebSocket-Key."""
        self._websocket_key = key
        self.open(door, line, StreamKind.WEBSOCKET, envelope)

    @property
    def late_at(self) -> float:
        """Loop time until which a reply may be waited for though its deadline has passed.

        Asked where one has: who runs a command in a sandbox says how long it may take, and a sandbox may have
        to be resumed first.
        """
        if self.place == "sandbox":
            return self.progress + self._house.terms.sandbox_reply_seconds
        return self._late_at

    def wait(self, seconds: float) -> None:
        """So much later may the reply begin, counted from now: its application has not heard of it yet."""
        self._late_at = self._house.clock() + seconds + self._house.terms.reply_seconds

    # From the visitor

    def upload(self, data: Buffer, end: bool) -> bool:
        """Body bytes of the visitor; False means: stop reading until ``resume_upload``."""
        if self.over:
            return True
        self.bytes_in += len(data)
        self.uploaded = end
        self.progress = self._house.clock()
        assert self.stream is not None
        return self.stream.send(data, end)

    def upload_last(self, pieces: list[Buffer], trailers: bytes) -> None:
        """The last body bytes, perhaps none, and the trailers behind them: the request is complete."""
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            self.upload(piece, index == last and not trailers)
        if trailers:
            self._upload_trailers(trailers)
        elif not pieces:
            self.upload(b"", True)

    def _upload_trailers(self, fields: bytes) -> None:
        if not self.over:
            self.uploaded = True
            assert self.stream is not None
            self.stream.head(HeadKind.TRAILERS, fields, b"", True)

    def unchoked(self) -> None:
        """The visitor reads again: credit what it took."""
        owed, self.owed = self.owed, 0
        if owed and self.stream is not None and not self.over:
            self.stream.consumed(owed)

    def abandon(self, reason: str) -> None:
        """The visitor left or broke a rule: the upstream is told at once."""
        if not self.over:
            self.reason = self.reason or reason
            self._give_up(Reason.CANCELLED)
            self._complete(whole=False)

    def refuse(self, page: Page) -> None:
        """End with a page of ours, or with a truncation where the reply had begun."""
        if not self.over:
            self._give_up(Reason.TIMEOUT if page.status == 504 else Reason.CANCELLED)
            self._fail(page)

    # Sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if self.over:
            return
        try:
            if kind is _REPLY:
                line = self._line
                if line is not None and head == line.reply_head and self.method == line.reply_method:
                    self._on_reply(line.reply_facts, data, end)  # fast path: servers repeat their heads
                else:
                    self._on_reply(self._facts(head), data, end)
            elif kind is HeadKind.INTERIM:
                self._on_interim(head)
            else:
                self._on_trailers(read_trailers(head))
        except HttpError as error:
            self._broken(error.reason)

    def on_data(self, data: Buffer, end: bool) -> None:
        if self.over:
            return
        size = len(data)
        if not self.status:
            if size or end:
                self._broken("body-before-head")
            return
        left = self._left
        if left >= 0:
            if size > left or (end and size < left):
                self._broken("length-mismatch")
                return
            self._left = left - size
        self.bytes_out += size
        self.visitor.send_body(data, end)
        self._took(size, end)

    def on_reset(self, reason: int) -> None:
        if self.over:
            return
        if reason == Reason.REFUSED and self._try_again():
            return
        self.stream = None
        away = self.place == "control" and reason in _AWAY
        self._fail(pages.CONTROL_AWAY if away else self.page_of(reason))

    def on_writable(self) -> None:
        if not self.over:  # else the visitor may be sending another request by now
            self.visitor.resume_upload()

    def page_of(self, reason: int) -> Page:
        """What a visitor is told of a stream that was reset; ``reason`` may be a newer peer's number."""
        if self.place == "port":
            return port_pages.OF_RESET.get(reason, port_pages.BROKE)
        return PAGES.get(reason, pages.BROKEN)

    # The reply

    def _facts(self, head: bytes) -> ReplyFacts:
        if len(head) > self._house.terms.max_reply_head_bytes:
            raise HttpError(502, "reply-head-too-large")
        facts = read_reply(head, self.method, upgrade=bool(self._websocket_key))
        if self.place != "control":  # whose cookies are ours
            fields = confined(facts.fields)
            if fields is not facts.fields:
                facts = facts._replace(fields=fields)
        if self._line is not None and facts.status != 101:
            self._line.remember(head, self.method, facts)
        return facts

    def _on_reply(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        if self.status:
            raise HttpError(502, "second-reply")
        self.first_byte = self._house.clock()
        if facts.status == 101:
            check_accept(facts.fields, self._websocket_key)
            self.status = 101
            self.visitor.upgrade(facts, data, end)
            return
        size = len(data)
        left = facts.content_length
        if facts.bodyless:
            left = 0
        if left is not None:
            if size > left or (end and size < left):
                if size > left or not size:
                    raise HttpError(502, "length-mismatch")
                self._truncated_reply(facts, data)
                return
            self._left = left - size
        self.status = facts.status
        self.bytes_out = size
        if facts.status >= 400 and self.place == "control":
            self.reason = _api_reason(facts)
        self.visitor.send_reply(facts, data, end)
        self._took(size, end)

    def _truncated_reply(self, facts: ReplyFacts, data: Buffer) -> None:
        self.status = facts.status
        self.bytes_out = len(data)
        self.visitor.send_reply(facts, data, False)
        self._broken("length-mismatch")

    def _on_interim(self, head: bytes) -> None:
        self._interims += 1
        if self.status or self._interims > self._house.terms.max_interim_heads:
            raise HttpError(502, "too-many-interim")
        self.progress = self._house.clock()
        self.visitor.send_interim(confined(read_interim(head)))

    def _on_trailers(self, fields: bytes) -> None:
        if not self.status or self._left > 0:
            raise HttpError(502, "early-trailers")
        self.visitor.send_trailers(fields)
        self._complete(whole=True)

    def _took(self, size: int, end: bool) -> None:
        """Bytes were handed to the visitor: credit for them, now or when it reads again."""
        if end:
            self.owed += size
            self._complete(whole=True)
        elif self.visitor.choked:
            self.owed += size
        elif size and self.stream is not None:
            self.stream.consumed(size)

    # Ends

    def _try_again(self) -> bool:
        """The request was never handed to an application: it may go to another session, once."""
        envelope, self._envelope = self._envelope, b""
        if not (envelope and self.name) or self.status:
            return False
        door = self._house.another(self.name, self._door)
        if door is None:
            return False
        self._carrier = door.carrier
        self.stream = door.open(_HTTP, envelope, self, b"", True)
        return True

    def _broken(self, reason: str) -> None:
        """The agent or its upstream broke the rules of HTTP."""
        self.reason = reason
        self._give_up(Reason.PROTOCOL)
        self._fail(pages.BROKEN)

    def _fail(self, page: Page) -> None:
        if self.place == "port":
            page = port_pages.INSTEAD.get(page.reason, page)
        self.reason = self.reason or page.reason
        if self.status:
            self.visitor.cut(short=self._left >= 0)
            self._complete(whole=False)
        else:
            self.status = page.status
            self.visitor.send_page(page)
            self._complete(whole=True)

    def _give_up(self, reason: Reason) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.reset(reason)

    def _complete(self, *, whole: bool) -> None:
        self.over = True
        if self._line is not None:
            self._line.exchanges -= 1
            self._line = None
        stream, self.stream = self.stream, None
        if stream is not None:
            if not self.uploaded:
                stream.reset(Reason.CANCELLED)  # the reply is whole, the rest of the request is not wanted
            elif self.owed:
                stream.consumed(self.owed)
        now = self._house.clock()
        self._house.note(
            (
                self.place, self.name, self.visitor.peer, self.method, self.target, self.status, whole,
                self.bytes_in, self.bytes_out, self.began, self.first_byte, now, self.request_id,
                self.reason, self._carrier,
            )
        )  # fmt: skip
        self.visitor.finished(now)

    def conclude(self, bytes_in: int, bytes_out: int, reason: str) -> None:
        """Write the access line of an upgraded conversation that is over."""
        if not self.over:
            self.bytes_in, self.bytes_out, self.reason = bytes_in, bytes_out, reason
            self.uploaded = True
            self._complete(whole=True)


def _api_reason(facts: ReplyFacts) -> str:
    """The word for what the control plane refused: of several limits with one status it names the one."""
    if facts.status == 429 and (named := _api_limit(facts.fields)) is not None:
        word = named[1].decode()
        if word in _API_LIMITS:
            return word
    return _API_REFUSALS.get(facts.status, "")
