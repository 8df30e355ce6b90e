"""An exchange between a visitor that writes down what it is given and a stream held by the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.kit.doors import FakeDoor, FakeStream
from wellhead.visitors import access, pages
from wellhead.visitors.exchange import Door, Exchange
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.headers import ReplyFacts
from wellhead.wire.streams import Buffer, HeadKind, Reason, StreamKind

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
OPEN_END = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"


@dataclass
class Limits:
    max_interim_heads: int = 3
    max_reply_head_bytes: int = 200
    reply_seconds: float = 120.0
    sandbox_reply_seconds: float = 3600.0


class Visitor:
    """Fits ``exchange.Visitor``."""

    def __init__(self) -> None:
        self.peer = "192.0.2.7"
        self.choked = False
        self.got: list[object] = []
        self.facts: ReplyFacts | None = None
        self.resumed = self.finishes = 0

    def send_interim(self, head: bytes) -> None:
        self.got.append(head)

    def send_reply(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        self.facts = facts
        self.got.append((facts.status, bytes(data), end))

    def send_body(self, data: Buffer, end: bool) -> None:
        self.got.append((bytes(data), end))

    def send_trailers(self, fields: bytes) -> None:
        self.got.append(fields)

    def send_page(self, page: Page) -> None:
        self.got.append(page)

    def cut(self, *, short: bool) -> None:
        self.got.append(("cut", short))

    def upgrade(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        self.got.append(facts.status)

    def resume_upload(self) -> None:
        self.resumed += 1

    def finished(self, now: float) -> None:
        self.finishes += 1


class House:
    """Fits ``exchange.House``."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = lambda: 1.0
        self.note: Callable[[access.Fields], None] = lambda fields: self.lines.append(access.Line(*fields))
        self.terms = Limits()
        self.lines: list[access.Line] = []
        self.other: FakeDoor | None = None

    def another(self, name: str, refused: Door | None) -> Door | None:
        return self.other


class Case:
    """One exchange; ``line`` counts it."""

    def __init__(self, method: bytes = b"GET", name: str = "my-agent", line: Memo | None = None) -> None:
        self.visitor, self.house, self.door = Visitor(), House(), FakeDoor()
        self.line = line or Memo()
        self.exchange = Exchange(self.visitor, method, b"/", b"r1", "tunnel", name, self.house)

    def whole(self) -> Case:
        self.exchange.open_whole(self.door, self.line, b"envelope")
        return self

    def with_body(self) -> Case:
        self.exchange.open(self.door, self.line, StreamKind.HTTP, b"envelope")
        return self

    @property
    def stream(self) -> FakeStream:
        return self.door.stream

    @property
    def page(self) -> Page:
        (page,) = self.visitor.got
        assert isinstance(page, Page)
        return page

    def is_over(self, *, status: int, whole: bool) -> bool:
        """Whether everything that an end owes was done, once."""
        (written,) = self.house.lines
        assert (written.status, written.whole) == (status, whole)
        assert self.visitor.finishes == 1 and self.line.exchanges == 0
        return self.exchange.over


def test_a_reply_that_repeats_is_read_once() -> None:
    line = Memo()
    first, second = Case(line=line), Case(line=line)
    for case in (first, second):
        case.whole().stream.reply(OK, b"body")
        assert case.visitor.got == [(200, b"body", True)] and case.is_over(status=200, whole=True)
    assert first.visitor.facts is second.visitor.facts


def test_a_reply_to_head_is_not_remembered_for_get() -> None:
    line = Memo()
    head, get = Case(b"HEAD", line=line).whole(), Case(line=line).whole()
    head.stream.reply(OK)
    get.stream.reply(OK, b"body")
    assert head.visitor.facts is not None and head.visitor.facts.bodyless
    assert get.visitor.got == [(200, b"body", True)]
    again = Case(b"HEAD", line=line).whole()
    again.stream.reply(OK, b"body")
    assert again.page is pages.BROKEN


def test_a_long_head_is_not_remembered() -> None:
    case = Case().whole()
    case.house.terms = Limits(max_reply_head_bytes=9000)
    case.stream.reply(OPEN_END.replace(b"x", b"x" * 5000))
    assert case.line.reply_head == b""


@pytest.mark.parametrize(
    ("head", "data", "end"),
    [
        (OK, b"12345", True),
        (OK, b"12345", False),
        (OK, b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"x", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", b"x", True),
        (OPEN_END.replace(b"x", b"x" * 200), b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"", False),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"", False),
        (b"HTTP/1.1 600 What\r\n\r\n", b"", True),
        (b"", b"", True),
    ],
)
def test_a_reply_that_lies_is_a_page_and_its_stream_is_given_up(head: bytes, data: bytes, end: bool) -> None:
    case = Case().whole()
    case.stream.reply(head, data, end)
    assert case.page is pages.BROKEN and case.stream.resets == [Reason.PROTOCOL]
    assert case.is_over(status=502, whole=True)


@pytest.mark.parametrize("status", [204, 304])
def test_bytes_after_a_reply_that_has_no_body_cut_it(status: int) -> None:
    case = Case().whole()
    case.stream.reply(b"HTTP/1.1 %d Short\r\n\r\n" % status, end=False)
    case.stream.sink.on_data(b"x", True)
    assert case.visitor.got[-1] == ("cut", True) and case.stream.resets == [Reason.PROTOCOL]


def test_a_body_of_unknown_length_ends_with_its_end() -> None:
    case = Case().whole()
    case.stream.reply(OPEN_END, b"a", end=False)
    case.stream.sink.on_data(b"b", False)
    case.stream.sink.on_data(b"", True)
    assert case.visitor.got == [(200, b"a", False), (b"b", False), (b"", True)]
    assert case.is_over(status=200, whole=True) and case.house.lines[0].bytes_out == 2


@pytest.mark.parametrize(("data", "end"), [(b"1234", False), (b"12", True), (b"", True)])
def test_a_body_that_is_longer_or_shorter_than_its_length_is_cut(data: bytes, end: bool) -> None:
    case = Case().whole()
    case.stream.reply(OK, b"1", end=False)
    case.stream.sink.on_data(data, end)
    assert case.visitor.got[-1] == ("cut", True) and case.stream.resets == [Reason.PROTOCOL]
    assert case.is_over(status=200, whole=False)


def test_a_cut_reply_of_unknown_length_says_so() -> None:
    case = Case().whole()
    case.stream.reply(OPEN_END, b"1", end=False)
    case.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert case.visitor.got[-1] == ("cut", False) and case.is_over(status=200, whole=False)


def test_interim_heads_pass_up_to_a_number_and_never_after_the_reply() -> None:
    many, late = Case().whole(), Case().whole()
    for _ in range(4):
        many.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 103 Early Hints\r\n\r\n", b"", False)
    assert len(many.visitor.got) == 4 and many.visitor.got[-1] is pages.BROKEN
    late.stream.reply(OPEN_END, end=False)
    late.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"", False)
    assert late.visitor.got[-1] == ("cut", False)


def test_a_tenants_cookies_stay_with_its_name_also_where_its_head_repeats() -> None:
    line = Memo()
    head = b"HTTP/1.1 %b\r\nSet-Cookie: a=b; Domain=x.com; Secure\r\nSet-Cookie: wellhead-port=c\r\n\r\n"
    for _ in range(2):
        case = Case(line=line).whole()
        case.stream.sink.on_head(HeadKind.INTERIM, head % b"103 Early Hints", b"", False)
        case.stream.reply(head % b"200 OK")
        assert case.visitor.got[0] == b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=b; Secure\r\n\r\n"
        assert case.visitor.facts is not None
        assert case.visitor.facts.fields == b"Set-Cookie: a=b; Secure\r\n"


def test_a_second_reply_is_a_fault() -> None:
    case = Case().whole()
    case.stream.reply(OPEN_END, end=False)
    case.stream.reply(OPEN_END)
    assert case.visitor.got[-1] == ("cut", False)


def test_bytes_before_the_head_are_a_fault() -> None:
    case = Case().whole()
    case.stream.sink.on_data(b"x", False)
    assert case.page is pages.BROKEN


def test_trailers_end_a_reply_and_may_not_come_early() -> None:
    case, early, short = Case().whole(), Case().whole(), Case().whole()
    case.stream.reply(OPEN_END, b"a", end=False)
    case.stream.sink.on_head(HeadKind.TRAILERS, b"X-Sum: 1\r\nHost: evil\r\n\r\n", b"", True)
    assert case.visitor.got[-1] == b"X-Sum: 1\r\n" and case.is_over(status=200, whole=True)
    early.stream.sink.on_head(HeadKind.TRAILERS, b"\r\n", b"", True)
    assert early.page is pages.BROKEN
    short.stream.reply(OK, b"1", end=False)
    short.stream.sink.on_head(HeadKind.TRAILERS, b"\r\n", b"", True)
    assert short.visitor.got[-1] == ("cut", True)


def test_a_request_that_was_refused_unheard_goes_to_another_session_once() -> None:
    case = Case().whole()
    case.house.other = other = FakeDoor()
    case.stream.sink.on_reset(Reason.REFUSED)
    assert other.stream.envelope == b"envelope" and other.stream.ended and case.line.exchanges == 1
    other.stream.sink.on_reset(Reason.REFUSED)
    assert len(other.opened) == 1 and case.page.status == 503 and case.is_over(status=503, whole=True)


def test_a_request_with_a_body_is_never_sent_twice() -> None:
    case = Case().with_body()
    case.house.other = FakeDoor()
    case.stream.sink.on_reset(Reason.REFUSED)
    assert not case.house.other.opened and case.page.status == 503


def test_a_reply_before_the_whole_request_gives_up_the_rest_of_it() -> None:
    case = Case(b"POST").with_body()
    case.exchange.upload(b"a", False)
    case.stream.reply(OK, b"body")
    assert case.stream.resets == [Reason.CANCELLED] and case.is_over(status=200, whole=True)
    assert case.exchange.upload(b"late", True) and case.stream.sent == b"a"


def test_a_whole_request_is_not_given_up_by_its_reply() -> None:
    case = Case(b"POST").with_body()
    case.exchange.upload_last([b"a", b"b"], b"")
    case.stream.reply(OK, b"body")
    assert case.stream.sent == b"ab" and case.stream.ended and not case.stream.resets


def test_the_last_bytes_may_be_none_and_trailers_may_follow() -> None:
    bare, trailed = Case(b"POST").with_body(), Case(b"POST").with_body()
    bare.exchange.upload_last([], b"")
    trailed.exchange.upload_last([b"a"], b"X: 1\r\n")
    assert bare.stream.ended and bare.stream.sent == b""
    assert trailed.stream.ended and trailed.stream.trailers == b"X: 1\r\n"


def test_a_full_stream_says_stop_and_later_go_on() -> None:
    case = Case(b"POST").with_body()
    case.stream.full = True
    assert not case.exchange.upload(b"a", False)
    case.stream.sink.on_writable()
    assert case.visitor.resumed == 1


def test_an_end_says_nothing_more_to_the_visitor() -> None:
    case = Case().whole()
    sink = case.stream.sink
    case.stream.reply(OK, b"body")
    sink.on_data(b"late", True)
    sink.on_head(HeadKind.REPLY, OK, b"", True)
    sink.on_reset(Reason.SESSION_LOST)
    sink.on_writable()
    case.exchange.abandon("visitor-left")
    case.exchange.refuse(pages.TIMEOUT)
    assert case.visitor.got == [(200, b"body", True)] and case.visitor.resumed == 0
    assert case.is_over(status=200, whole=True)


def test_bytes_are_credited_when_the_visitor_has_taken_them() -> None:
    case = Case().whole()
    case.visitor.choked = True
    case.stream.reply(OPEN_END, b"12", end=False)
    case.stream.sink.on_data(b"345", False)
    assert case.stream.credit == 0
    case.visitor.choked = False
    case.exchange.unchoked()
    assert case.stream.credit == 5
    case.stream.sink.on_data(b"6", False)
    assert case.stream.credit == 6


def test_what_a_choked_visitor_owed_is_settled_at_the_end() -> None:
    case = Case().whole()
    case.visitor.choked = True
    case.stream.reply(OPEN_END, b"12", end=False)
    case.stream.sink.on_data(b"345", True)
    assert case.stream.credit == 5


def test_a_stream_that_is_refused_while_it_is_opened_is_over_at_once() -> None:
    case = Case()
    case.door.refuses = Reason.OVERLOADED
    case.whole()
    assert case.page.status == 503 and case.is_over(status=503, whole=True)


def test_a_door_that_fails_keeps_no_place_in_the_tunnel_once_the_visitor_is_gone() -> None:
    class Broken(FakeDoor):
        def open(self, *arguments: object, **options: object) -> FakeStream:
            raise ZeroDivisionError

    case = Case()
    case.door = Broken()
    with pytest.raises(ZeroDivisionError):
        case.whole()
    case.exchange.abandon("visitor-left")
    assert case.line.exchanges == 0


def test_abandoning_cancels_the_stream_and_writes_a_line_without_status() -> None:
    case = Case().whole()
    case.exchange.abandon("visitor-left")
    assert case.stream.resets == [Reason.CANCELLED] and case.is_over(status=0, whole=False)
    assert case.house.lines[0].reason == "visitor-left"
