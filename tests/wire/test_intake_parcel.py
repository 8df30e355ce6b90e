"""Parcels: what an envelope becomes in our agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_intake_envelope import ID, head, names, texts
from wellhead.errors import HttpError
from wellhead.wire.envelope import read_envelope
from wellhead.wire.facts import Facts
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_envelope import envelope_fields, tcp_fields
from wellhead.wire.intake_parcel import EnvelopeError, Parcel, ParcelReader, read_envelope_fields
from wellhead.wire.streams import StreamKind

HOST = b"me.tun.test"
KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="


def read(fields: Fields) -> Parcel | None:
    return read_envelope_fields(fields, HOST, lambda: KEY)


def parcel(fields: Fields) -> Parcel:
    found = read(fields)
    assert found is not None
    return found


def envelope(*fields: tuple[bytes, bytes], **meta: bytes) -> Fields:
    """As an edge that is not ours writes it."""
    said = {b"request-id": b"r", **{name.replace("_", "-").encode(): value for name, value in meta.items()}}
    own = [(b"inkbox-" + name, value) for name, value in said.items()]
    return [(b":status", b"200"), *own, *[(b"inkbox-h-" + name, value) for name, value in fields]]


def lines(found: Parcel) -> list[bytes]:
    return found.envelope.split(b"\r\n")[:-2]


def test_what_our_edge_hands_over_opens_a_stream_as_the_native_carrier_does() -> None:
    asked = head(b"User-Agent: curl/8", b"Cookie: a=1", b"Content-Length: 5", method=b"POST")
    found = parcel(envelope_fields(asked, ID, faithful=True))
    assert (found.kind, found.request_id, found.bridge_id, found.body_uri) == (StreamKind.HTTP, ID, b"", b"")
    assert found.envelope == asked.replace(b"User-Agent", b"user-agent").replace(b"Cookie", b"cookie")


@given(st.lists(st.tuples(names, texts), max_size=20), st.booleans())
def test_every_head_that_our_edge_lets_in_arrives(said: list[tuple[bytes, bytes]], websocket: bool) -> None:
    try:
        asked = head(*[b"%b: %b" % line for line in said])
        fields = envelope_fields(asked, ID, websocket=websocket, faithful=True)
    except HttpError:
        return
    before, after = read_envelope(asked), read_envelope(parcel(fields).envelope)
    assert (after.method, after.target, after.host, after.content_length, after.peer) == (
        before.method, before.target, before.host, before.content_length, before.peer,
    )  # fmt: skip


def test_an_edge_that_says_little_is_understood() -> None:
    found = parcel(envelope())
    assert found.envelope == b"GET / HTTP/1.1\r\nHost: me.tun.test\r\nX-Request-Id: r\r\n\r\n"


def test_an_upstream_is_told_of_the_visitor() -> None:
    found = parcel(envelope(forwarded_for=b"2001:db8::1", path=b"/a"))
    assert lines(found) == [
        b"GET /a HTTP/1.1",
        b"Host: me.tun.test",
        b"X-Forwarded-For: 2001:db8::1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: me.tun.test",
        b'Forwarded: for="[2001:db8::1]";host="me.tun.test";proto=https',
        b"X-Request-Id: r",
    ]


@pytest.mark.parametrize("address", [b"", b"1.2.3.4:5", b"unknown", b"fe80::1%\r\nX: y", b"a" * 50])
def test_an_address_that_is_none_is_not_passed_on(address: bytes) -> None:
    assert read_envelope(parcel(envelope(forwarded_for=address)).envelope).peer == ""


def test_what_an_edge_forgot_to_leave_out_is_left_out() -> None:
    hop = [
        (b"connection", b"x"), (b"te", b"trailers"), (b"x-forwarded-for", b"6.6.6.6"), (b"host", b"evil"),
        (b"forwarded", b"for=6"), (b"sec-websocket-key", b"x"), (b"inkbox-status", b"200"),
        (b"x-owner-token", b"t"), (b"keep-alive", b"5"), (b"te", b"gzip"), (b"upgrade", b"h2c"),
    ]  # fmt: skip
    assert lines(parcel(envelope(*hop, (b"x-a", b" 1\t")))) == lines(parcel(envelope((b"x-a", b"1"))))


def test_cookie_crumbs_are_one_cookie() -> None:
    crumbs = (b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2")
    assert lines(parcel(envelope(*crumbs))) == lines(parcel(envelope((b"cookie", b"a=1; b=2"), crumbs[1])))


def test_the_visitors_request_id_is_kept_where_it_can_be() -> None:
    assert lines(parcel(envelope((b"x-request-id", b"v-1"))))[-1] == b"X-Request-Id: v-1"
    assert lines(parcel(envelope((b"x-request-id", b"v 1"))))[-1] == b"X-Request-Id: r"


def test_a_length_that_is_none_is_not_passed_on() -> None:
    for length, told in ((b"5", 5), (b"5,5", None), (b"x", None), (b"1" * 20, None)):
        found = parcel(envelope((b"content-length", length), method=b"POST"))
        assert read_envelope(found.envelope).content_length == told


def test_an_answer_without_a_request_id_hands_over_nothing() -> None:
    assert read([(b":status", b"200")]) is None
    for odd in (b"", b"a/b", b"a b", b"x" * 257, b"\xff"):
        assert read(envelope(request_id=odd)) is None


@pytest.mark.parametrize(
    "meta, reason",
    [
        ({"path": b"http://evil/"}, "invalid-path"),
        ({"path": b"@evil"}, "invalid-path"),
        ({"path": b""}, "invalid-path"),
        ({"path": b"/a b"}, "invalid-path"),
        ({"path": b"/\r\nX: y"}, "invalid-path"),
        ({"path": b"/a#b"}, "invalid-path"),
        ({"method": b"GET /x"}, "invalid-method"),
        ({"method": b""}, "invalid-method"),
        ({"route_kind": b"ws-upgrade"}, "missing-ws-id"),
        ({"route_kind": b"ws-upgrade", "ws_id": b"a/b"}, "missing-ws-id"),
    ],
)
def test_a_malformed_envelope_names_the_request_that_shall_be_told(
    meta: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read(envelope(**meta))
    assert (caught.value.request_id, caught.value.status, caught.value.reason) == (b"r", 400, reason)


def test_a_malformed_field_is_refused_and_the_next_envelope_is_read() -> None:
    reader = ParcelReader(HOST, lambda: KEY)
    good = envelope((b"x-a", b"1"), route_kind=b"webhook")
    for bad in ((b"x-a", b"1\r\nx: y"), (b"x-a\r\nx", b"1"), (b"", b"1"), (b"x-a", b"1\0")):
        with pytest.raises(EnvelopeError) as caught:
            reader.read(envelope(bad, route_kind=b"webhook"))
        assert caught.value.request_id == b"r"
        assert reader.read(good) == parcel(good)


def test_what_the_sdks_refuse_is_the_applications_to_judge() -> None:
    for path in (b"/a/../b", b"/%2f", b"/%252e", b"/a\\b"):
        assert read_envelope(parcel(envelope(path=path)).envelope).target == path


def test_a_kind_that_nobody_knows_is_a_request() -> None:
    assert parcel(envelope(route_kind=b"carrier-pigeon")).kind is StreamKind.HTTP


def test_a_body_that_is_elsewhere_is_told_of() -> None:
    assert parcel(envelope(body_uri=b"https://x/y")).body_uri == b"https://x/y"


def test_a_websocket_is_asked_for_with_a_key_of_our_own() -> None:
    found = parcel(envelope((b"sec-websocket-protocol", b"a"), route_kind=b"ws-upgrade", ws_id=b"w"))
    assert (found.kind, found.bridge_id) == (StreamKind.WEBSOCKET, b"w")
    assert lines(found)[2:5] == [
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        b"sec-websocket-protocol: a",
    ]


def test_every_websocket_gets_a_key_of_its_own() -> None:
    keys = iter([b"1", b"2"])
    reader = ParcelReader(HOST, lambda: next(keys))
    asked = envelope(route_kind=b"ws-upgrade", ws_id=b"w")
    first, second = reader.read(asked), reader.read(asked)
    assert first is not None and second is not None and first.envelope != second.envelope


# TCP


@given(
    st.builds(
        Facts,
        st.one_of(st.just(""), st.ip_addresses().map(str)),
        st.integers(0, 65535),
        st.sampled_from(["", "a.tun.test"]),
        st.sampled_from(["", "0.0.0.0:443"]),
    )
)
def test_facts_of_a_tcp_connection_arrive(facts: Facts) -> None:
    found = parcel(tcp_fields(facts, ID))
    assert (found.kind, found.request_id, found.bridge_id) == (StreamKind.TCP, ID, ID)
    assert Facts.decode(found.envelope) == facts


def test_facts_that_nobody_can_have_meant_are_left_out() -> None:
    odd = envelope(
        route_kind=b"tcp-stream", tcp_id=b"t", forwarded_for=b"\xff", forwarded_port=b"99999",
        sni_host=b"a\nb", listener=b"x" * 300,
    )  # fmt: skip
    assert Facts.decode(parcel(odd).envelope) == Facts()
    assert read(envelope(route_kind=b"tcp-stream")) is None


# Remembering

ENVELOPES = st.builds(
    lambda kind, path, fields, split: (
        envelope(*fields, path=path, route_kind=kind)
        if split
        else envelope(*fields, route_kind=kind, path=path)
    ),
    st.sampled_from([b"webhook", b"tcp-stream", b"odd"]),
    st.sampled_from([b"/", b"/a", b"bad"]),
    st.lists(
        st.tuples(st.sampled_from([b"x-a", b"x-request-id", b"te"]), st.sampled_from([b"1", b"2"])),
        max_size=3,
    ),
    st.booleans(),
)


def outcome(reader: ParcelReader, fields: Fields) -> Parcel | str | None:
    try:
        return reader.read(fields)
    except EnvelopeError as error:
        return f"{error.reason} {error.request_id!r}"


@given(st.lists(ENVELOPES, max_size=6))
def test_a_reader_that_remembers_says_what_one_that_does_not_says(said: list[Fields]) -> None:
    reader = ParcelReader(HOST, lambda: KEY)
    for fields in said * 2:
        assert outcome(reader, fields) == outcome(ParcelReader(HOST, lambda: KEY), fields)
