"""Bodies: the same payload whatever the network chopped, and no byte that can be read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire.body import LAST_CHUNK, VIEW, Body, ChunkedBody, CloseBody, LengthBody, chunk, last_chunk


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:], strict=False)]


def read_all(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Payload, and what came behind the body."""
    payload, rest = b"", b""
    for piece in pieces:
        if body.done:
            rest += piece
            continue
        fed = body.feed(piece)
        assert fed.done == body.done
        assert fed.done or not fed.rest
        assert all(fed.pieces)
        payload += b"".join(fed.pieces)
        rest += fed.rest
    return payload, rest


def refused(data: bytes, cuts: list[int] | None = None, status: int = 400) -> str:
    """Why a chunked body is refused; empty if it is not."""
    body = ChunkedBody(status)
    try:
        read_all(body, chop(data, cuts or []))
    except HttpError as error:
        assert error.status == status
        return error.reason
    return ""


def test_a_body_of_known_length_ends_there() -> None:
    body = LengthBody(5)
    assert body.feed(b"abc") == ([b"abc"], False, b"")
    assert body.feed(b"") == ([], False, b"")
    assert body.feed(b"deGET /") == ([b"de"], True, b"GET /")
    assert body.done
    body.eof()


def test_a_body_of_no_length_is_over_before_it_begins() -> None:
    body = LengthBody(0)
    assert body.done
    assert body.feed(b"GET") == ([], True, b"GET")


def test_a_body_that_is_cut_off_is_an_error() -> None:
    body = LengthBody(5, status=502)
    body.feed(b"abc")
    with pytest.raises(HttpError) as caught:
        body.eof()
    assert (caught.value.status, caught.value.reason) == (502, "truncated-body")
    chunked = ChunkedBody()
    chunked.feed(b"5\r\nhello\r\n")
    with pytest.raises(HttpError):
        chunked.eof()
    ends = CloseBody()
    assert ends.feed(b"abc") == ([b"abc"], False, b"")
    assert not ends.done
    ends.eof()
    assert ends.done


def test_large_payload_is_not_copied() -> None:
    data = bytes(VIEW + 1)
    (piece,) = LengthBody(10**9).feed(data).pieces
    assert piece is data
    (piece,) = LengthBody(len(data)).feed(data).pieces
    assert piece is data
    (piece,) = LengthBody(VIEW + 1).feed(data + b"rest").pieces
    assert isinstance(piece, memoryview)
    whole = b"%x\r\n" % len(data) + data + b"\r\n"
    (piece,) = ChunkedBody().feed(whole).pieces
    assert isinstance(piece, memoryview) and piece.obj is whole
    header, payload, end = chunk(data)
    assert payload is data
    assert b"".join((header, end)) == b"4001\r\n\r\n"


def test_small_chunks_are_one_write_and_no_chunk_is_empty() -> None:
    assert chunk(b"hello") == [b"5\r\nhello\r\n"]
    assert chunk(memoryview(b"hello")) == [b"5\r\nhello\r\n"]
    assert chunk(b"") == []
    assert last_chunk() == LAST_CHUNK == b"0\r\n\r\n"
    assert last_chunk(b"A: b\r\n") == b"0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "payload", "trailers"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"00005\r\nhello\r\n0000\r\n\r\n", b"hello", b""),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, b""),
        (b"2\r\n\r\n\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n\n", b""),
        (b"1;a\r\nx\r\n1;a=b;c=d\r\ny\r\n0;e\r\n\r\n", b"xy", b""),
        (b'1;a="q;\\" \xff\t"\r\nx\r\n0\r\n\r\n', b"x", b""),
        (b"1;" + b"a" * 255 + b"\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"0000000000000001;" + b"a" * 255 + b"\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n", b"", b"Grpc-Status: 0\r\nX: y\r\n"),
        (b"0\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\nCookie: z\r\n\r\n", b"", b"X: y\r\n"),
        (b"0\r\nAuthorization: a\r\n\r\n", b"", b""),
        (b"0\r\nX: " + b"y" * 8187 + b"\r\n\r\n", b"", b"X: " + b"y" * 8187 + b"\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 10**6])
def test_good_chunked_bodies(wire: bytes, payload: bytes, trailers: bytes, step: int) -> None:
    wire += b"NEXT"
    body = ChunkedBody()
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    assert read_all(body, pieces) == (payload, b"NEXT")
    assert body.trailers == trailers
    assert body.feed(b"more") == ([], True, b"more")


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        *((size + b"\r\nhello\r\n0\r\n\r\n", "chunk-size") for size in (
            b"", b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5\t", b"5_0", b"5g", b"g", b"5.", b"5,5", b"\xb2",
            b"00000000000000005", b"f" * 17, b"5\r", b"\x0b5", b"5\x00",
        )),
        *((b"5" + extension + b"\r\nhello\r\n0\r\n\r\n", "chunk-extension") for extension in (
            b";", b";;", b";a;", b"; a", b";a =b", b";a= b", b";a=", b";=b", b";a=b c", b";\x00", b";a=\x7f",
            b';a="', b';a="b', b';a="\x01"', b";a\rb", b";a=b\r", b';a="\r"', b";a" + b"b" * 255,
            b";\xc3\xa4", b";a=\xff",
        )),
        (b"5 ;a=b\r\nhello\r\n0\r\n\r\n", "chunk-extension"),
        (b"5\nhello\r\n0\r\n\r\n", "chunk-size"),
        (b"5;a\nhello\r\n0\r\n\r\n", "chunk-extension"),
        (b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "chunk-extension"),
        (b"5\r\nhello0\r\n\r\n", "chunk-end"),
        (b"5\r\nhello\n0\r\n\r\n", "chunk-end"),
        (b"5\r\nhello\r0\r\n\r\n", "chunk-end"),
        (b"5\r\nhello!\r\n0\r\n\r\n", "chunk-end"),
        (b"5\r\nhell\r\n0\r\n\r\n", "chunk-end"),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", "chunk-size"),
        (b"0\r\nX : y\r\n\r\n", "trailers"),
        (b"0\r\nX: y\n\r\n\r\n", "trailers"),
        (b"0\r\n\nX", "trailers"),
        (b"0\r\nX: y\r\n z\r\n\r\n", "trailers"),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", "trailers"),
        (b"0\r\nX: \0\r\n\r\n", "trailers"),
        (b"0\r\nX: " + b"y" * 8188 + b"\r\n\r\n", "trailers-too-large"),
        (b"0\r\nX: " + b"y" * 10000, "trailers-too-large"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 502])
def test_bad_chunked_bodies(wire: bytes, reason: str, status: int) -> None:
    assert refused(wire, status=status) == reason
    assert refused(wire, list(range(len(wire))), status)


@pytest.mark.parametrize(
    "start", [b"5\n", b"x", b"5 ", b"5;\0", b"5;a\n", b"0" * 17, b"5;" + b"a" * 300, b";a"]
)
def test_a_hopeless_beginning_is_not_waited_for(start: bytes) -> None:
    assert refused(start)


def test_the_limit_of_the_trailers_is_a_parameter() -> None:
    body = ChunkedBody(max_trailers=6)
    assert body.feed(b"0\r\nA: b\r\n\r\n").done
    with pytest.raises(HttpError):
        ChunkedBody(max_trailers=6).feed(b"0\r\nA: bc\r\n\r\n")


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=12)


@given(CHUNKS, CUTS, st.sampled_from([b"", b"A: b\r\n", b"Host: a\r\nX: y\r\n"]), st.binary(max_size=10))
def test_chopping_a_chunked_body_changes_nothing(
    chunks: list[bytes], cuts: list[int], trailers: bytes, behind: bytes
) -> None:
    wire = b"".join(b"".join(chunk(data)) for data in chunks) + last_chunk(trailers) + behind
    body = ChunkedBody()
    assert read_all(body, chop(wire, cuts)) == (b"".join(chunks), behind)
    assert body.trailers == trailers.removeprefix(b"Host: a\r\n")


@given(st.binary(max_size=60), st.binary(max_size=20), CUTS)
def test_chopping_a_body_of_known_length_changes_nothing(
    payload: bytes, behind: bytes, cuts: list[int]
) -> None:
    assert read_all(LengthBody(len(payload)), chop(payload + behind, cuts)) == (payload, behind)


@given(
    st.lists(
        st.sampled_from(
            [b"5", b"\r\n", b"\r", b"\n", b"hello", b"0", b";a=b", b";", b" ", b"X: y", b"a", b"1"]
        ),
        max_size=16,
    ),
    CUTS,
)
def test_chopping_does_not_make_a_bad_body_good(parts: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(parts)
    whole, chopped = ChunkedBody(), ChunkedBody()
    try:
        expected = read_all(whole, [wire])
    except HttpError:
        with pytest.raises(HttpError):
            read_all(chopped, chop(wire, cuts))
    else:
        assert read_all(chopped, chop(wire, cuts)) == expected
        assert (whole.done, whole.trailers) == (chopped.done, chopped.trailers)
