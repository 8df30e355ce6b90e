"""Host fields: every one that could lead two programs to two places is refused."""

from __future__ import annotations

import pytest

from wellhead.errors import HttpError
from wellhead.wire.hostname import read_authority


@pytest.mark.parametrize(
    ("value", "host", "hostname"),
    [
        (b"localhost", b"localhost", "localhost"),
        (b"App.Localhost:8443", b"app.localhost:8443", "app.localhost"),
        (b"app.localhost.", b"app.localhost.", "app.localhost"),
        (b"app.localhost.:80", b"app.localhost.:80", "app.localhost"),
        (b"127.0.0.1:1", b"127.0.0.1:1", "127.0.0.1"),
        (b"[::1]", b"[::1]", "::1"),
        (b"[::0001]:65535", b"[::0001]:65535", "::1"),
        (b"[2001:DB8::A]", b"[2001:db8::a]", "2001:db8::a"),
        (b"[::ffff:1.2.3.4]", b"[::ffff:1.2.3.4]", "::ffff:102:304"),
        (b"_dmarc.a-b.example", b"_dmarc.a-b.example", "_dmarc.a-b.example"),
        (b"3000-cl-abc.example", b"3000-cl-abc.example", "3000-cl-abc.example"),
        (b"a" * 255, b"a" * 255, "a" * 255),
    ],
)
def test_good_hosts(value: bytes, host: bytes, hostname: str) -> None:
    assert read_authority(value) == (host, hostname)


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b" ",
            b"a b",
            b"a,b",
            b"a, a",
            b"user@a",
            b"user:pw@a",
            b"a/",
            b"a/b",
            b"a?b",
            b"a#b",
            b"http://a",
        ),
        *(
            b"a:",
            b"a:0",
            b"a:080",
            b"a:65536",
            b"a:99999",
            b"a:123456",
            b"a:-1",
            b"a:+1",
            b"a:8o",
            b"a:80:80",
        ),
        *(
            b".",
            b"..",
            b".a",
            b"a..b",
            b"a..",
            b"-a",
            b"a\0",
            b"a\x0b",
            b"a\t",
            b"a%41",
            b"a%00.b",
            b"\xc3\xa4.de",
        ),
        *(
            b"\xe2\x84\xaaelvin",
            b"::1",
            b"[::1",
            b"::1]",
            b"[]",
            b"[1.2.3.4]",
            b"[::1]a",
            b"[::1]:",
            b"[fe80::1%lo]",
        ),
        *(
            b"[::1]:0",
            b"[:::]",
            b"[g::1]",
            b"a\\b",
            b"a'b",
            b'"a"',
            b"a;b",
            b"a=b",
            b"(a)",
            b"*",
            b"*.a",
            b"a" * 256,
        ),
    ],
)
def test_bad_hosts(value: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read_authority(value)
    assert (caught.value.status, caught.value.reason) == (400, "host")


def test_the_status_is_the_callers() -> None:
    with pytest.raises(HttpError) as caught:
        read_authority(b"a@b", 502)
    assert caught.value.status == 502
