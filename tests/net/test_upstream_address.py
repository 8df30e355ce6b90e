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
    ],
)
def test_an_address_says_what_host_and_origin_an_upstream_expects(
    written: str | int, authority: bytes, origin: bytes
) -> None:
    address = parse_upstream(written)
    assert (address.authority, address.origin) == (authority, origin)


def test_an_address_is_printed_so_that_it_reads_back() -> None:
    for written in ("8000", "https://example.org", "[::1]:1234", "unix:/run/app.sock"):
        address = parse_upstream(written)
        assert parse_upstream(str(address)) == address


@pytest.mark.parametrize(
    "written",
    [
        "", "0", "65536", "99999999999999", "localhost", "ftp://x", "http://", "http://x/path", "http://x/?q",
        "http://u:p@x", "http://x:0", "http://x:70000", "http://x:y", "unix:", "unix:run.sock", "http://a b",
        "http://x#f", "unix:/" + "a" * 120, "http://[::1", "x:80/path", "http://x\r\nHost:y",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_reason(written: str) -> None:
    with pytest.raises(InputError):
        parse_upstream(written)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        parse_upstream("http://user:hunter2@host:80")
    assert "hunter2" not in str(caught.value)
