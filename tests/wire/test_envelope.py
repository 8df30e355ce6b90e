"""What an upstream gets: one framing, its own name where wanted, nothing else changed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from wellhead.errors import HttpError, InputError
from wellhead.wire.envelope import HostPolicy, read_envelope


@dataclass(frozen=True)
class Upstream:
    authority: bytes = b"localhost:8000"
    origin: bytes = b"http://localhost:8000"


REWRITE = HostPolicy("rewrite", Upstream())
PRESERVE = HostPolicy("preserve", Upstream())


def envelope(fields: bytes = b"", line: bytes = b"GET /x", host: bytes = b"app.example:8443") -> bytes:
    return line + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + fields + b"X-Forwarded-Proto: https\r\n\r\n"


def test_an_envelope_is_taken_apart() -> None:
    raw = envelope(b"Content-Length: 3\r\nA: 1\r\n", b"PUT /x?y")
    read = read_envelope(raw)
    assert (read.method, read.target, read.host, read.content_length) == (
        b"PUT",
        b"/x?y",
        b"app.example:8443",
        3,
    )
    assert not read.expects_continue
    assert read_envelope(envelope()).content_length is None
    assert read_envelope(envelope(b"Expect: 100-continue\r\n")).expects_continue
    assert read_envelope(envelope(line=b"OPTIONS *")).target == b"*"


def test_the_visitor_is_who_is_named_last_and_nobody_where_none_is() -> None:
    told = b"X-Forwarded-For: 6.6.6.6\r\nA: X-Forwarded-For: 6.6.6.7\r\nX-Forwarded-For: 2001:db8::7\r\n"
    assert read_envelope(envelope(told)).peer == "2001:db8::7"
    assert read_envelope(envelope(b"X-Forwarded-For: \r\n")).peer == read_envelope(envelope()).peer == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET /x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nA: 1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nbody",
        b"GET //evil/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET @evil HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET \\evil HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G T /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"A" * 33 + b" /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_an_envelope_that_is_not_canonical_is_refused(raw: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read_envelope(raw)
    assert (caught.value.status, caught.value.reason) == (400, "envelope")


def test_a_target_of_two_slashes_passes_where_no_other_host_can_be_meant() -> None:
    raw = b"GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n"
    assert read_envelope(raw, slashes=True).target == b"//a//b"
    with pytest.raises(HttpError):
        read_envelope(raw.replace(b"//a", b"a"), slashes=True)


@pytest.mark.parametrize(
    "target", [b"/", b"/a//b", b"/a/../../etc", b"/%2e%2e/%2F", b"/?a=//b", b"/\xc3\xa4", b"/@e"]
)
def test_targets_are_carried_byte_for_byte(target: bytes) -> None:
    raw = envelope(line=b"GET " + target)
    assert REWRITE.request_head(read_envelope(raw)).startswith(b"GET " + target + b" HTTP/1.1\r\n")


def test_the_host_is_rewritten_or_kept_or_set() -> None:
    read = read_envelope(envelope(b"Content-Length: 3\r\nA: 1\r\n"))
    assert PRESERVE.request_head(read) is read.raw
    assert REWRITE.request_head(read) == read.raw.replace(b"app.example:8443", b"localhost:8000")
    value = HostPolicy("intern.example", Upstream())
    assert value.request_head(read) == read.raw.replace(b"app.example:8443", b"intern.example")


@pytest.mark.parametrize("value", ["", "a b", "a\r\nX: y", "ä", "a/b", "u@a"])
def test_a_host_value_must_be_an_authority(value: str) -> None:
    with pytest.raises(InputError):
        HostPolicy(value, Upstream())


def test_the_public_origin_becomes_the_upstreams() -> None:
    fields = (
        b"Origin: https://app.example:8443\r\n"
        b"referer: https://App.Example:8443/page?x=https://app.example:8443/\r\n"
        b"Destination: https://app.example:8443/b\r\n"
    )
    assert REWRITE.request_head(read_envelope(envelope(fields))) == (
        b"GET /x HTTP/1.1\r\nHost: localhost:8000\r\nOrigin: http://localhost:8000\r\n"
        b"referer: http://localhost:8000/page?x=https://app.example:8443/\r\n"
        b"Destination: http://localhost:8000/b\r\nX-Forwarded-Proto: https\r\n\r\n"
    )
    assert PRESERVE.request_head(read_envelope(envelope(fields))) == envelope(fields)
    other = HostPolicy("intern.example", Upstream())
    assert b"\r\nOrigin: http://intern.example\r\n" in other.request_head(read_envelope(envelope(fields)))


def test_where_that_is_asked_for_a_pages_own_change_has_one_name_in_origin_and_forwarded_host() -> None:
    forwarded = b"X-Forwarded-Host: app.example:8443\r\n"
    own, forged = b"Origin: https://app.example:8443\r\n", b"Origin: https://evil.example\r\n"
    opens = b"Upgrade-Insecure-Requests: 1\r\n"
    public, upstreams = b"app.example:8443", b"localhost:8000"
    one_name = HostPolicy("rewrite", Upstream(), one_name=True)
    for policy, line, fields, told in (
        (one_name, b"POST /x", own, upstreams),
        (one_name, b"POST /x", own + b"X-Note: X-Forwarded-Host: app.example:8443\r\n", upstreams),
        (one_name, b"GET /x", own, public),
        (one_name, b"POST /x", opens, public),
        (one_name, b"POST /x", own + opens, public),
        (one_name, b"POST /x", forged, public),
        (one_name, b"POST /x", b"Referer: https://app.example:8443/page\r\n", public),
        (REWRITE, b"POST /x", own, public),
    ):
        head = policy.request_head(read_envelope(envelope(fields + forwarded, line)))
        assert head.count(b"\r\nX-Forwarded-Host: %b\r\n" % told) == 1, fields
        assert head.count(b"\r\nX-Forwarded-Host: ") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"Origin: http://app.example:8443",
        b"Origin: https://app.example:84433",
        b"Origin: https://app.example:8443.evil",
        b"Origin: https://app.example",
        b"Origin: https://evil.example",
        b"Origin: https://evil.example/https://app.example:8443",
        b"Origin: https://app.example:8443@evil.example",
        b"Origin: https://app.example:8443?x",
        b"Origin: null",
        b"Referer: https://evil/?https://app.example:8443/",
        b"Destination: https://evil.example/b",
        b"X-Origin: https://app.example:8443",
        b"Cookie: origin: https://app.example:8443",
    ],
)
def test_an_origin_that_is_not_the_public_one_stays_as_it_is(line: bytes) -> None:
    raw = envelope(line + b"\r\n")
    assert REWRITE.request_head(read_envelope(raw)) == raw.replace(
        b"Host: app.example:8443", b"Host: localhost:8000"
    )


@pytest.mark.parametrize("policy", [REWRITE, PRESERVE])
def test_the_framing_and_the_switch_are_written_behind_the_host(policy: HostPolicy) -> None:
    read = read_envelope(envelope(b"A: 1\r\n"))
    plain = policy.request_head(read)
    before, rest = plain[: plain.index(b"A: 1")], plain[plain.index(b"A: 1") :]
    assert policy.request_head(read, chunked=True) == before + b"Transfer-Encoding: chunked\r\n" + rest
    switch = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    assert policy.request_head(read, websocket=True) == before + switch + rest
    grpc = read_envelope(envelope(b"TE: trailers\r\n"))
    assert b"Connection: TE\r\nTE: trailers\r\n" in policy.request_head(grpc)
