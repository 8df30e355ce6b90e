"""HPACK against the ``hpack`` package, which is the oracle; and what a stranger may not do with it."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import (
    TABLE_SIZE,
    Decoder,
    Encoder,
    Fields,
    list_size,
    spelled,
    spelling,
    unhuffman,
)
from wellhead.wire.hpack_tables import STATIC
from wellhead.wire.intake_calls import Caller

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

names = st.sampled_from([b":status", b":path", b"cookie", b"x-a", b"server", b"authorization"]) | st.binary(
    min_size=1, max_size=20
)
values = st.sampled_from([b"", b"200", b"/", b"a=1"]) | st.binary(max_size=200)
lists = st.lists(st.tuples(names, values), max_size=12)


def reader(max_list: int = 65536, max_fields: int = 512) -> Decoder:
    return Decoder(max_list, max_fields)


@given(st.lists(lists, min_size=1, max_size=8), st.booleans())
def test_what_we_encode_others_read(messages: list[Fields], shared: bool) -> None:
    encoder, oracle = Encoder(shared=shared), hpack.Decoder()
    oracle.max_header_list_size = 2**20
    for message in messages * 2:
        assert oracle.decode(encoder.encode(message), raw=True) == message


@given(st.lists(lists, min_size=1, max_size=8), st.booleans())
def test_what_others_encode_we_read(messages: list[Fields], huffman: bool) -> None:
    decoder, oracle = reader(2**20), hpack.Encoder()
    for message in messages * 2:
        assert decoder.decode(oracle.encode(message, huffman=huffman)) == message


@given(st.lists(st.tuples(st.integers(0, 10000), lists), min_size=1, max_size=8))
def test_both_tables_follow_a_changed_size(steps: list[tuple[int, Fields]]) -> None:
    encoder, their_decoder = Encoder(), hpack.Decoder()
    their_decoder.max_header_list_size = 2**20
    decoder, their_encoder = reader(2**20), hpack.Encoder()
    for size, message in steps:
        their_decoder.max_allowed_table_size = max(size, TABLE_SIZE)
        encoder.set_capacity(size)
        assert their_decoder.decode(encoder.encode(message), raw=True) == message
        their_encoder.header_table_size = min(size, TABLE_SIZE)
        assert decoder.decode(their_encoder.encode(message)) == message


def test_a_table_that_shrank_and_grew_between_two_blocks_is_told_both_sizes() -> None:
    encoder, oracle = Encoder(), hpack.Decoder()
    fields = [(b"server", b"one")]
    oracle.decode(encoder.encode(fields))
    encoder.set_capacity(0)
    encoder.set_capacity(4096)
    block = encoder.encode(fields)
    assert block.startswith(b"\x20\x3f\xe1\x1f")
    assert oracle.decode(block, raw=True) == fields


def test_a_peer_that_offers_four_gigabytes_of_table_does_not_make_us_use_them() -> None:
    encoder = Encoder()
    encoder.set_capacity(2**32 - 1)
    for number in range(1000):
        encoder.encode([(b"x-%d" % number, b"v" * 100)])
    assert list_size(encoder._entries) <= TABLE_SIZE


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_others_read_them_or_refused(block: bytes) -> None:
    oracle = hpack.Decoder()
    try:
        expected = oracle.decode(block, raw=True)
    except Exception:
        expected = None
    try:
        fields = reader().decode(block)
    except H2Error as error:
        # The oracle lets pass more table sizes than anybody has reason to send.
        assert expected is None or str(error) == "hpack: third-table-size"
    else:
        assert fields == expected


@given(st.binary(max_size=40), st.binary(max_size=2), st.integers(0, 255))
def test_huffman_code_is_undone_as_others_do_it_or_refused(text: bytes, tail: bytes, flip: int) -> None:
    code = bytearray(HUFFMAN.encode(text) + tail)
    if code:
        code[-1] ^= flip if flip < 8 else 0
    literal = b"\x00\x01x" + bytes((0x80 | len(code),)) if len(code) < 127 else b""
    if not literal:
        return
    try:
        ((_, expected),) = hpack.Decoder().decode(literal + code, raw=True)
    except hpack.HPACKError:
        with pytest.raises(H2Error) as caught:
            unhuffman(bytes(code))
        assert caught.value.error_code == ErrorCode.COMPRESSION_ERROR
    else:
        assert unhuffman(bytes(code)) == expected


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # an empty table
        b"\xff\xff\xff\xff\xff\xff\xff",  # a number without end
        b"\x40",  # a literal that stops behind its first byte
        b"\x40\x0aab",  # a name cut short
        b"\x40\x01a\x05b",  # a value cut short
        b"\x40\x01a",  # no value
        b"\x82\x20",  # a table size behind a field
        b"\x20\x20\x20\x82",  # three table sizes
        b"\x3f\xe2\x1f",  # a table above what was allowed
        b"\x3f",  # a table size cut short
        b"\x00\x01a\x82\xff\xff",  # Huffman: padding of two bytes
        b"\x00\x01a\x81\x18",  # Huffman: padding that is not ones
        b"\x00\x01a\x84\xff\xff\xff\xff",  # Huffman: EOS
    ],
)
def test_a_broken_block_is_a_compression_error(block: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(H2Error) as caught:
        reader().decode(block)
    assert caught.value.error_code == ErrorCode.COMPRESSION_ERROR
    assert caught.value.reason == "hpack"
    assert capfd.readouterr() == ("", "")  # native code reports its panics there


def test_references_to_a_large_entry_do_not_unpack_without_bound() -> None:
    decoder = reader(max_list=65536)
    decoder.decode(hpack.Encoder().encode([(b"x", b"v" * 4000)]))
    assert len(decoder.decode(b"\xbe" * 16)) == 16
    with pytest.raises(H2Error) as caught:
        decoder.decode(b"\xbe" * 17)
    assert (caught.value.error_code, caught.value.reason) == (ErrorCode.ENHANCE_YOUR_CALM, "hpack-bomb")


def test_the_number_of_fields_is_bounded() -> None:
    decoder = reader(max_list=2**30, max_fields=500)
    assert len(decoder.decode(b"\x82" * 500)) == 500
    with pytest.raises(H2Error, match="more than 500 fields"):
        decoder.decode(b"\x82" * 501)


def test_size_is_exact_where_it_matters_and_never_too_small() -> None:
    fields = [(b"a", b"b" * 100), (b"c", b"d" * 200)]
    exact, rough = Decoder(65536, 512, 0), Decoder(65536, 512, 32768)
    block = hpack.Encoder().encode(fields)
    assert exact.decode(block) == rough.decode(block) == fields
    assert exact.size == list_size(fields) == 366
    assert 366 <= rough.size <= 32768


def test_a_repeated_block_is_the_same_list_until_the_table_changes() -> None:
    decoder, oracle = reader(), hpack.Encoder()
    one, two = [(b"x", b"1")], [(b"x", b"2")]
    decoder.decode(oracle.encode(one))
    block = oracle.encode(one)
    known = decoder.decode(block)
    assert decoder.decode(block) is known
    decoder.decode(oracle.encode(two))  # what was entry 62 is entry 63 now
    assert decoder.decode(block) == two


REPEATING = st.lists(
    st.sampled_from(
        [
            (b":path", b"/"), (b":path", b"/1"), (b":path", b"/2"), (b"content-length", b"0"),
            (b"content-length", b"7"), (b"cookie", b"a"), (b"cookie", b"b"), (b"x-request-id", b"1"),
            (b"x-request-id", b"2"), (b":status", b"200"), (b"x-more", b"x" * 40), (b"x-other", b"y"),
            (b"etag", b"e" * 130), (b"x-fills", b"z" * 1900), (b"inkbox-path", b"/1"),
            (b"inkbox-path", b"/2"),
        ]
    ),
    max_size=9,
)  # fmt: skip


@given(st.lists(st.one_of(REPEATING, st.integers(0, 4096)), max_size=30), st.booleans())
def test_lists_that_repeat_in_part_are_read_as_they_are(steps: list[Fields | int], shared: bool) -> None:
    encoder, decoder, oracle = Encoder(shared=shared), reader(2**20), hpack.Decoder()
    for step in steps:
        if isinstance(step, int):
            encoder.set_capacity(step)
            oracle.max_allowed_table_size = 4096
            continue
        block = encoder.encode(step)
        assert oracle.decode(block, raw=True) == step
        assert decoder.decode(block) == step
        assert decoder.size >= list_size(step)


@given(st.lists(REPEATING, max_size=20), st.booleans(), st.booleans())
def test_a_peers_lists_that_repeat_in_part_are_read_as_they_are(
    messages: list[Fields], huffman: bool, indexes: bool
) -> None:
    decoder, oracle = reader(2**20), hpack.Encoder()
    kind = hpack.HeaderTuple if indexes else hpack.NeverIndexedHeaderTuple
    for message in messages:
        said = [kind(*field) if at % 3 == 0 else field for at, field in enumerate(message)]
        assert decoder.decode(oracle.encode(said, huffman=huffman)) == message
        assert decoder.size >= list_size(message)


def test_where_spelled_blocks_come_again_they_are_remembered_and_elsewhere_not() -> None:
    oracle = hpack.Encoder()

    def block(at: int) -> bytes:
        return oracle.encode([hpack.NeverIndexedHeaderTuple(b"x-id", b"%d" % at)])

    decoder = reader()
    for at in range(5000):
        decoder.decode(block(at))
    assert len(decoder._spelled) < 100
    for at in range(3000):  # a new habit is found out in a while
        decoder.decode(block(at % 7))
    assert decoder.decode(block(1)) is decoder.decode(block(1))
    for at in range(3000):
        decoder.decode(block(1 if at % 30 else at))
    assert decoder.decode(block(1)) is decoder.decode(block(1))


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=3, max_size=3), st.sampled_from([b"x", b"yy", b"zz", b""]), st.integers(0, 9)
        ),
        max_size=40,
    ),
    st.lists(st.integers(0, 40), max_size=2),
)
def test_blocks_that_differ_in_spelled_out_values_alone_are_read_as_they_are(
    messages: list[tuple[bytes, bytes, int]], inserts: list[int]
) -> None:
    """Of the same length again and again, other lengths within; and now and then the table moves."""
    encoder, decoder, oracle = Encoder(), reader(), hpack.Decoder()
    path, other = spelling(b"x-path"), spelling(b"x-id")
    for at, (value, odd, number) in enumerate(messages):
        fields: Fields = [(b":method", b"POST"), (b"x-constant", b"c")]
        if at in inserts:
            fields.append((b"x-new", b"%d" % at))
        lead = spelled(path, value[: 3 - len(odd)]) + spelled(other, odd + b"%d" % number)
        block = encoder.encode(fields, lead)
        assert decoder.decode(block) == oracle.decode(block, raw=True)
        assert decoder.size >= list_size(fields)


def test_what_is_known_of_blocks_alike_is_forgotten_with_the_table() -> None:
    decoder = reader()
    newest = b"\xbe"  # whichever that is
    for name in (b"a", b"b"):
        decoder.decode(b"\x40\x01%b\x011" % name)
        for value in (b"x", b"y", b"z"):
            assert decoder.decode(newest + b"\x00\x01n\x01" + value) == [(name, b"1"), (b"n", value)]


def test_blocks_that_never_come_again_do_not_push_out_those_that_do() -> None:
    decoder, oracle = reader(), hpack.Encoder()
    slots: list[Fields] = [[(b"x-pool-slot", b"%d" % at)] for at in range(32)]
    for slot in slots:
        decoder.decode(oracle.encode(slot))
    blocks = [oracle.encode(slot) for slot in slots]
    lists = [decoder.decode(block) for block in blocks]
    for at in range(200):
        decoder.decode(oracle.encode([hpack.NeverIndexedHeaderTuple(b"x-id", b"%d" % at)]))
    assert all(decoder.decode(block) is known for block, known in zip(blocks, lists, strict=True))


def literal(name: int, value: bytes) -> bytes:
    """A field with a name of the static table, to be inserted; the value as it is."""
    return bytes([0x40 | name, len(value)]) + value


@given(
    st.lists(
        st.sampled_from(
            [
                b"\x88" + literal(54, b"nginx") + literal(33, b"Sat"),  # :status 200, server, date
                literal(33, b"Sun"),
                literal(58, b"x" * 120) * 12,  # more than half of the table
                b"\xbe",  # the newest entry
                b"\xbf",
                b"\x88\xbe" + literal(54, b"other"),
                b"\x88",
            ]
        ),
        max_size=40,
    )
)
def test_blocks_that_insert_the_same_again_leave_the_table_that_they_should(blocks: list[bytes]) -> None:
    decoder, oracle = reader(2**20), hpack.Decoder()
    oracle.max_header_list_size = 2**20
    for block in blocks:
        try:
            wanted = oracle.decode(block, raw=True)
        except hpack.HPACKError:  # an entry that is not there yet
            with pytest.raises(H2Error):
                decoder.decode(block)
            return
        assert decoder.decode(block) == wanted
        assert decoder.size >= list_size(wanted)


def test_a_repeated_list_is_the_same_block_until_the_table_changes() -> None:
    encoder, oracle = Encoder(), hpack.Decoder()
    one, two = [(b"x", b"1")], [(b"x", b"2")]
    oracle.decode(encoder.encode(one))
    assert encoder.encode(one) is encoder.encode(one)
    oracle.decode(encoder.encode(two))
    assert oracle.decode(encoder.encode(one), raw=True) == one


def test_a_list_made_anew_at_the_place_of_an_old_one_is_not_mistaken_for_it() -> None:
    encoder, oracle = Encoder(), hpack.Decoder()
    for number in range(200):
        fields = [(b":status", b"200"), (b":path", b"/%d" % number)]
        assert oracle.decode(encoder.encode(fields), raw=True) == fields


def test_an_agents_intake_is_nothing_but_indexes() -> None:
    encoder = Encoder()
    intake = Caller(b"z", b"id", (b"x-api-key", b"key")).intake(0, b"token")
    encoder.encode(intake)
    assert len(encoder.encode(intake)) == len(intake)


def test_of_fields_that_never_repeat_the_name_is_spelled_once() -> None:
    encoder, decoder = Encoder(), reader()
    sizes = []
    for at in range(3):
        fields = [(b"inkbox-request-id", b"%08d" % at), (b"inkbox-path", b"/%08d" % at)]
        block = encoder.encode(fields)
        assert decoder.decode(block) == fields
        sizes.append(len(block))
    assert sizes[1] == sizes[2] == sizes[0] - len(b"inkbox-request-id" + b"inkbox-path")


def test_secrets_of_several_people_stay_out_of_the_table_and_are_marked() -> None:
    encoder = Encoder(shared=True)
    for name in (b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"):
        assert encoder.encode([(name, b"secret")])[0] & 0xF0 == 0x10  # never indexed, by anybody
    assert not encoder._entries


def test_the_static_table_is_that_of_the_rfc() -> None:
    assert tuple(STATIC.values()) == hpack.table.HeaderTable.STATIC_TABLE
