"""A connection that has served before judges every request as a fresh one does, however it is cut."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.house import COUNTS, TERMS, House, Visit
from wellhead.wire.streams import HeadKind

LINES = [
    b"GET / HTTP/1.1", b"GET /b?c HTTP/1.1", b"HEAD /b HTTP/1.1", b"POST /p HTTP/1.1", b"GET / HTTP/1.0",
    b"TRACE / HTTP/1.1", b"GET http://localhost/x HTTP/1.1", b"GET / HTTP/1.1\r", b"GET /\tx HTTP/1.1",
    b"GET  / HTTP/1.1", b"\r\nGET / HTTP/1.1", b"OPTIONS * HTTP/1.1", b"get / HTTP/1.1",
]  # fmt: skip
BLOCKS = [
    b"Host: localhost\r\n", b"Host: localhost\r\nX: y\r\n", b"Host: LOCALHOST\r\n", b"\nHost: localhost\r\n",
    b"Host: localhost\r\nContent-Length: 4\r\n", b"Host: localhost\r\nTransfer-Encoding: chunked\r\n",
    b"Host: localhost\r\nConnection: close\r\n", b"Host: a.localhost\r\n", b"Host: localhost\r\n X: y\r\n",
    b"Host: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"", b"X: y\r\n",
    b"Host: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n",
]  # fmt: skip
BODIES = [b"", b"body", b"4\r\nbody\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
Seen = tuple[bytes, bytes, bool, tuple[int, ...]]  # envelope, body, whether it ended, resets
OK_HEAD = b"HTTP/1.1 200 OK\r\n\r\n"

requests = st.builds(
    lambda line, block, body: line + b"\r\n" + block + b"\r\n" + body,
    st.sampled_from(LINES), st.sampled_from(BLOCKS), st.sampled_from(BODIES),
)  # fmt: skip


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def answer(house: House, visit: Visit, done: int) -> int:
    """Answer every request that is whole; returns how many streams there have been."""
    while len(house.door.opened) > done and house.door.opened[done].ended:
        stream = house.door.opened[done]
        done += 1
        head = stream.envelope.startswith(b"HEAD ")
        stream.sink.on_head(HeadKind.REPLY, OK_HEAD if head else OK, b"" if head else b"hi", True)
        await turns()
    return done


async def serve(raw: bytes, cuts: list[int], *, remembering: bool) -> tuple[list[Seen], bytes, bool]:
    """What reached the control plane of this byte stream, what was answered, and whether it was closed."""
    house = House(TERMS, COUNTS)
    visit = house.visit()
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    done = 0
    for start, end in zip(edges, edges[1:], strict=False):
        if not remembering:
            visit.connection._repeat = ()
        if not visit.transport.closed:
            visit.connection.data_received(raw[start:end])
        await turns()
        if not remembering:
            visit.connection._repeat = ()
        done = await answer(house, visit, done)
    seen: list[Seen] = [
        (stream.envelope.partition(b"X-Request-Id")[0], stream.sent, stream.ended, tuple(stream.resets))
        for stream in house.door.opened
    ]
    house.close()
    written = b"\r\n".join(
        line for line in visit.transport.written.split(b"\r\n") if not line.startswith(b"X-Request-Id")
    ).replace(house.ingress._ids, b"")
    return seen, written, visit.transport.ended or visit.transport.closed


@settings(max_examples=400, deadline=None)
@given(st.lists(requests, min_size=1, max_size=5), st.lists(st.integers(0, 1000), max_size=6))
def test_what_a_connection_remembers_changes_nothing(parts: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(parts)
    remembering = asyncio.run(serve(raw, cuts, remembering=True))
    assert remembering == asyncio.run(serve(raw, cuts, remembering=False))


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, min_size=1, max_size=4), st.lists(st.integers(0, 1000), max_size=8))
def test_where_the_network_cut_changes_no_request_and_no_end(parts: list[bytes], cuts: list[int]) -> None:
    """What is malformed may be refused earlier, and then in other words."""
    raw = b"".join(parts)
    (cut, cut_answer, cut_end), (whole, answer, end) = (
        asyncio.run(serve(raw, given, remembering=True)) for given in (cuts, [])
    )
    assert [seen for seen in cut if seen[2]] == [seen for seen in whole if seen[2]]
    assert cut_answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 200") and cut_end == end
