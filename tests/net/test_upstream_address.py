from __future__ import annotations

import pytest

from wellhead.errors import InputError
from wellhead.net.upstream_address import parse_upstream


@pytest.mark.parametrize(
    ("written", "authority", "origin"),
    [
        ("8000", b"localhost:8000", b"http://localhost:8000"),
        (8000, b"localhost:8000", b"http://localhost:8000"),
        ("127.0.0.1:8000", b"127.0.0.1:8000", b"http://127.0.0.1:8000"),
        ("[::1]:8000", b"[::1]:8000", b"http://[::1]:8000"),
        ("app.internal:80", b"app.internal", b"http://app.internal"),
        ("http://LOCALHOST:8000/", b"localhost:8000", b"http://localhost:8000"),
        ("https://example.org", b"example.org", b"https://example.org"),
        ("https://example.org:80", b"example.org:80", b"https://example.org:80"),
        ("unix:/run/app.sock", b"localhost", b"http://localhost"),
        ("unix:///run/app.sock", b"localhost", b"http://localhost"),
        ("h2c://127.0.0.1:50051", b"127.0.0.1:50051", b"http://127.0.0.1:50051"),
        ("h2c:/run/app.sock", b"localhost", b"http://localhost"),
        ("h2c:///run/app.sock", b"localhost", b"http://localhost"),
    ],
)
def test_an_address_says_what_host_and_origin_an_upstream_expects(
    written: str | int, authority: bytes, origin: bytes
) -> None:
    address = parse_upstream(written)
    assert (address.authority, address.origin) == (authority, origin)


def test_an_address_is_printed_so_that_it_reads_back() -> None:
    for written in (
        "8000", "https://example.org", "[::1]:1234", "unix:/run/app.sock", "h2c://[::1]:50051", "h2c:/run/a",
        "tls://localhost:9443", "tls://[::1]:443", "tls:/run/a",
    ):  # fmt: skip
        address = parse_upstream(written)
        assert parse_upstream(str(address)) == address


@pytest.mark.parametrize(
    ("written", "http", "may_speak_h2"),
    [
        ("8000", "auto", False),
        ("8000", "1.1", False),
        ("8000", "2", True),
        ("unix:/run/app.sock", "2", True),
        ("h2c://x:1", "auto", True),
        ("h2c://x:1", "2", True),
        ("https://x", "auto", True),
        ("https://x", "1.1", False),
        ("https://x", "2", True),
    ],
)
def test_http2_is_spoken_where_it_is_asked_for_or_tls_may_agree_on_it(
    written: str, http: str, may_speak_h2: bool
) -> None:
    assert parse_upstream(written, http).may_speak_h2 is may_speak_h2


@pytest.mark.parametrize(
    "written", ["tls://LOCALHOST:9443", "tls://x", "tls:/run/app.sock", "tls:///run/app.sock"]
)
def test_bytes_are_handed_on_as_they_are_where_tls_ends_at_the_upstream(written: str) -> None:
    address = parse_upstream(written)
    assert address.raw and not address.tls and not address.may_speak_h2
    with pytest.raises(InputError, match="as they are"):
        parse_upstream(written, "2")


def test_an_address_and_a_version_that_contradict_each_other_are_refused() -> None:
    for written, http, wanted in (("h2c://x:1", "1.1", "speaks HTTP/2"), ("8000", "3", "auto, 1.1 or 2")):
        with pytest.raises(InputError, match=wanted):
            parse_upstream(written, http)


@pytest.mark.parametrize(
    "written",
    [
        "", "0", "65536", "99999999999999", "localhost", "ftp://x", "http://", "http://x/path", "http://x/?q",
        "http://u:p@x", "http://x:0", "http://x:70000", "http://x:y", "unix:", "unix:run.sock", "http://a b",
        "http://x#f", "unix:/" + "a" * 120, "http://[::1", "x:80/path", "http://x\r\nHost:y",
        "h2c://", "h2c:run.sock", "h2c://x/path", "h2c:/" + "a" * 120,
        "tls://", "tls:run.sock", "tls://x/path", "tls://x:0",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_reason(written: str) -> None:
    with pytest.raises(InputError):
        parse_upstream(written)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        parse_upstream("http://user:hunter2@host:80")
    assert "hunter2" not in str(caught.value)
