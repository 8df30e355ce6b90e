"""Whatever visitor, agent and clock do in whatever order, a connection keeps its books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.doors import FakeStream
from tests.kit.house import COUNTS, TERMS, House, Visit
from tests.visitors.test_conversation import ASK, SWITCH, client_text, server_text
from wellhead.wire.streams import HeadKind, Reason
from wellhead.wire.ws import close_frame

HOST = b"Host: my-agent.localhost\r\n"
SAYS = [
    b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n", b"body",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nbody\r\n", b"0\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: 4\r\n\r\n",
    ASK.replace(b"Host: localhost\r\n", HOST), client_text(b"hello"), close_frame(1000, mask=b"\1\2\3\4"),
    b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n", b"nonsense\r\n\r\n", b"GET /part", b"\r\n",
]  # fmt: skip
HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", SWITCH,
    b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Same\r\nContent-Length: 4\r\n\r\n", b"nonsense",
]  # fmt: skip
DATA = [b"", b"data", server_text(b"text"), close_frame(1000), b"\x81"]


class Book:
    """One connection, and every stream it opened."""

    def __init__(self) -> None:
        self.house = House(TERMS, COUNTS)
        self.door = self.house.tunnel("my-agent")
        self.line = next(iter(self.house.registry.lines.values()))
        self.visit: Visit = self.house.visit()
        self.paused = False
        self.halved = False
        self.lost = False
        self.over: set[FakeStream] = set()  # the agent has said all that it may

    @property
    def gone(self) -> bool:
        return self.visit.transport.closed

    def agent(self, act: Callable[[FakeStream], None]) -> None:
        """Let the agent act on the youngest stream, as far as a carrier would let it."""
        if self.door.opened:
            stream = self.door.stream
            if stream not in self.over and not stream.resets:
                act(stream)

    def says(self, data: bytes) -> None:
        transport = self.visit.transport
        if transport.reading and not self.gone and not self.halved:
            self.visit.connection.data_received(data)

    def head(self, head: bytes, data: bytes, end: bool) -> None:
        def act(stream: FakeStream) -> None:
            if end:
                self.over.add(stream)
            stream.sink.on_head(HeadKind.REPLY, head, data, end)

        self.agent(act)

    def interim(self, status: int) -> None:
        head = b"HTTP/1.1 %d Wait\r\n\r\n" % status
        self.agent(lambda stream: stream.sink.on_head(HeadKind.INTERIM, head, b"", False))

    def data(self, data: bytes, end: bool) -> None:
        def act(stream: FakeStream) -> None:
            if end:
                self.over.add(stream)
            if data or end:
                stream.sink.on_data(data, end)

        self.agent(act)

    def trailers(self) -> None:
        def act(stream: FakeStream) -> None:
            self.over.add(stream)
            stream.sink.on_head(HeadKind.TRAILERS, b"X: 1\r\n\r\n", b"", True)

        self.agent(act)

    def reset(self, reason: int) -> None:
        def act(stream: FakeStream) -> None:
            self.over.add(stream)
            stream.sink.on_reset(reason)

        self.agent(act)

    def full(self, full: bool) -> None:
        def act(stream: FakeStream) -> None:
            stream.full = full
            if not full:
                stream.sink.on_writable()

        self.agent(act)

    def choke(self, choked: bool) -> None:
        if choked is not self.paused and not self.gone:
            self.paused = choked
            (self.visit.connection.pause_writing if choked else self.visit.connection.resume_writing)()

    def eof(self) -> None:
        if not self.halved and not self.gone and self.visit.transport.reading:
            self.halved = True
            if not self.visit.connection.eof_received():
                self.visit.transport.close()

    def later(self, seconds: float) -> None:
        self.house.ahead += seconds
        if not self.gone:
            self.visit.connection.tick(self.house.clock())

    def drain(self) -> None:
        self.house.ingress.draining = True
        if not self.gone:
            self.visit.connection.drain()

    def settle(self) -> None:
        """A transport that was closed has nothing left to write, and is lost."""
        if self.gone and not self.lost:
            self.lost = True
            self.visit.connection.connection_lost(None)

    def close(self) -> None:
        self.visit.transport.closed = True
        self.settle()
        self.house.close()


steps = st.one_of(
    st.tuples(st.just("says"), st.sampled_from(SAYS)),
    st.tuples(st.just("says"), st.sampled_from(SAYS)),
    st.tuples(st.just("head"), st.sampled_from(HEADS), st.sampled_from(DATA), st.booleans()),
    st.tuples(st.just("data"), st.sampled_from(DATA), st.booleans()),
    st.tuples(st.just("interim"), st.sampled_from([100, 103])),
    st.tuples(st.just("trailers")),
    st.tuples(st.just("reset"), st.sampled_from([Reason.OVERLOADED, Reason.SESSION_LOST, 99])),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("choke"), st.booleans()),
    st.tuples(st.just("later"), st.sampled_from([0.25, 6.0, 31.0, 121.0])),
    st.tuples(st.just("eof")),
    st.tuples(st.just("drain")),
)


async def play(script: list[tuple[object, ...]]) -> None:
    book = Book()
    for name, *arguments in script:
        getattr(book, str(name))(*arguments)
        book.settle()
        await asyncio.sleep(0)
        assert book.line.exchanges <= 1, "one exchange at a time"
    book.close()
    assert book.line.exchanges == 0 and len(book.house.ingress) == 0
    of_tunnel = [line for line in book.house.lines if line.place == "tunnel" and line.name == "my-agent"]
    assert len(of_tunnel) == len(book.door.opened), "a line for each exchange"
    for stream in book.door.opened[:-1]:
        assert stream in book.over or stream.resets, "nobody is left waiting"
    assert all(len(stream.resets) <= 1 for stream in book.door.opened)


@settings(max_examples=600, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_happens_the_books_balance(script: list[tuple[object, ...]]) -> None:
    asyncio.run(play(script))
