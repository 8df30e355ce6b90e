"""The ClientHello: read from whatever came so far, refused as soon as it cannot become one."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import ClientHelloError
from wellhead.wire.sni import ClientHello, Need, alert, read_client_hello


def openssl_hello(name: str | None, alpn: list[str] | None = None) -> bytes:
    """What a real client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def vector(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(body, 2)


def sni(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(b"".join(bytes((kind,)) + vector(name, 2) for name in names), 2))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(b"".join(vector(protocol, 1) for protocol in protocols), 2))


def message(
    extensions: bytes | None = b"", *, version: bytes = b"\x03\x03", session: bytes = bytes(32)
) -> bytes:
    body = version + bytes(32) + vector(session, 1) + vector(b"\x13\x01", 2) + vector(b"\0", 1)
    if extensions is not None:
        body += vector(extensions, 2)
    return b"\x01" + vector(body, 3)


def records(handshake: bytes, size: int = 16384) -> bytes:
    parts = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\x03\x01" + vector(part, 2) for part in parts)


def refusal(data: bytes) -> tuple[int, str]:
    with pytest.raises(ClientHelloError) as caught:
        read_client_hello(data)
    return caught.value.alert, caught.value.reason


def test_hellos_of_openssl() -> None:
    assert read_client_hello(openssl_hello("app.localhost")) == ClientHello("app.localhost", ())
    hello = openssl_hello("App.Example.COM", ["wellhead/1", "h2", "http/1.1"])
    assert read_client_hello(hello) == ClientHello("app.example.com", (b"wellhead/1", b"h2", b"http/1.1"))
    assert read_client_hello(hello + b"early data") == read_client_hello(hello)
    assert read_client_hello(openssl_hello("127.0.0.1")) == ClientHello(None, ())
    assert read_client_hello(openssl_hello(None)) == ClientHello(None, ())


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (b"a", "a"),
        (b"A.B", "a.b"),
        (b"a.b.", "a.b"),
        (b"3000-cl-x.example", "3000-cl-x.example"),
        (b"_x.example", "_x.example"),
        (b"xn--nxasmq6b.example", "xn--nxasmq6b.example"),
        (b"a" * 63 + b".example", "a" * 63 + ".example"),
        (b".".join([b"a" * 49] * 5), ".".join(["a" * 49] * 5)),
        (b"1.2.3", "1.2.3"),
    ],
)
def test_good_names(name: bytes, read: str) -> None:
    assert read_client_hello(records(message(sni(name)))) == ClientHello(read, ())


@pytest.mark.parametrize(
    "name",
    [
        b".",
        b"..",
        b".a",
        b"a..b",
        b"a..",
        b"a\0",
        b"a\0.example",
        b"\0",
        b"a b",
        b"a/b",
        b"-a",
        b"a-",
        b"a-.b",
    ]
    + [
        b"*.a",
        b"a:443",
        b"[::1]",
        b"::1",
        b"\xc3\xa4",
        b"a\n",
        b"a" * 64,
        b".".join([b"a" * 60] * 5),
        b"user@a",
    ],
)
def test_bad_names(name: bytes) -> None:
    assert refusal(records(message(sni(name)))) == (47, "server-name")


@pytest.mark.parametrize("name", [b"127.0.0.1", b"1.2.3.4."])
def test_an_address_is_no_name(name: bytes) -> None:
    assert refusal(records(message(sni(name)))) == (112, "address-as-name")


def test_a_hello_without_extensions_asks_for_nothing() -> None:
    assert read_client_hello(records(message(None))) == ClientHello(None, ())
    assert read_client_hello(records(message(b""))) == ClientHello(None, ())
    assert read_client_hello(records(message(alpn(b"h2")))) == ClientHello(None, (b"h2",))


@pytest.mark.parametrize(
    ("data", "number", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", 10, "not-tls"),
        (b"\x80\x2e\x01", 10, "not-tls"),
        (b"\x16\x02", 70, "not-tls"),
        (b"\x15\x03\x01\x00\x02\x02\x28", 10, "not-tls"),
        (b"\x16\x03\x01\x00\x00", 10, "empty-record"),
        (b"\x16\x03\x01\x40\x01", 22, "record-too-long"),
        (b"\x16\x03\x01\x00\x05\x02", 10, "not-client-hello"),
        (b"\x16\x03\x01\x40\x00\x01\x01\x00\x01", 47, "hello-too-long"),
        (b"\x16\x03\x01\x40\x00\x01\x00\x00\x28", 50, "malformed-hello"),
        (records(message(version=b"\x02\x00")), 70, "version"),
        (records(message(session=bytes(33))), 50, "malformed-hello"),
        (records(message(b"\0")), 50, "malformed-hello"),
        (records(message(extension(0, b""))), 50, "malformed-hello"),
        (records(message(sni())), 50, "malformed-hello"),
        (records(message(sni(b""))), 50, "malformed-hello"),
        (records(message(extension(0, vector(b"\0" + vector(b"a", 2), 2) + b"x"))), 50, "malformed-hello"),
        (records(message(sni(b"a", b"b"))), 47, "two-names"),
        (records(message(sni(b"a", b"a"))), 47, "two-names"),
        (records(message(sni(b"a", kind=1))), 47, "server-name"),
        (records(message(sni(b"a") + sni(b"b"))), 47, "repeated-extension"),
        (records(message(sni(b"a") * 2)), 47, "repeated-extension"),
        (records(message(alpn(b"h2") + alpn(b"x"))), 47, "repeated-extension"),
        (records(message(alpn())), 50, "malformed-hello"),
        (records(message(alpn(b""))), 50, "malformed-hello"),
        (records(message(extension(16, vector(b"\x05h2", 2)))), 50, "malformed-hello"),
        (records(message(b"\0\x17\0\x05ab")), 50, "malformed-hello"),
    ],
)
def test_what_is_no_hello_is_refused_with_its_alert(data: bytes, number: int, reason: str) -> None:
    assert refusal(data) == (number, reason)


def test_lengths_that_lie_are_refused() -> None:
    good = message(sni(b"a"))
    longer = b"\x01" + vector(good[4:] + b"x", 3)
    assert refusal(records(longer)) == (50, "malformed-hello")
    shorter = b"\x01" + vector(good[4:-1], 3)
    assert refusal(records(shorter)) == (50, "malformed-hello")


@pytest.mark.parametrize("size", [1, 5, 100, 16384])
def test_a_hello_may_span_records_and_reads(size: int) -> None:
    hello = records(message(sni(b"a.example") + extension(99, bytes(300)) + alpn(b"h2")), size)
    expected = ClientHello("a.example", (b"h2",))
    assert read_client_hello(hello) == expected
    for end in range(len(hello)):
        need = read_client_hello(hello[:end])
        assert isinstance(need, Need)
        assert 1 <= need.count <= len(hello) - end


@pytest.mark.parametrize("padding", [16_000, 32_000, 60_000])
def test_large_hellos_are_read(padding: int) -> None:
    hello = records(message(extension(99, bytes(padding)) + sni(b"a.example")))
    assert read_client_hello(hello) == ClientHello("a.example", ())
    assert isinstance(read_client_hello(hello[:-1]), Need)


def test_a_hello_of_64_kibibytes_is_the_longest() -> None:
    body = message(extension(99, bytes(65000)))
    pad = 65536 - (len(body) - 4)
    # Extensions cannot fill all of it by themselves: the ciphers take the rest.
    head = body[4:39] + bytes(32)
    ciphers = vector(bytes(2 + pad), 2)
    exact = b"\x01" + vector(head + ciphers + vector(b"\0", 1) + body[4 + 35 + 32 + 4 + 2 :], 3)
    assert len(exact) == 65540
    assert read_client_hello(records(exact)) == ClientHello(None, ())
    assert refusal(b"\x16\x03\x01\x00\x04\x01\x01\x00\x01") == (47, "hello-too-long")


def test_who_waits_for_what_was_needed_gets_there() -> None:
    hello = records(message(sni(b"a.example")), 7)
    have, reads = 1, 0
    while isinstance(found := read_client_hello(hello[:have]), Need):
        have += found.count
        reads += 1
        assert have <= len(hello)
    assert found.server_name == "a.example"
    assert reads <= 2 * len(hello) // 7


@given(st.lists(st.integers(1, 400), max_size=8), st.integers(1, 50))
def test_the_reading_does_not_depend_on_the_records(cuts: list[int], first: int) -> None:
    whole = message(sni(b"a.example") + alpn(b"h2", b"x"))
    places = sorted({0, len(whole), first, *(cut % len(whole) for cut in cuts)})
    chopped = b"".join(records(whole[start:stop]) for start, stop in zip(places, places[1:], strict=False))
    assert read_client_hello(chopped) == ClientHello("a.example", (b"h2", b"x"))


@given(st.binary(max_size=100), st.integers(0, 90))
def test_whatever_comes_is_read_or_needed_or_refused(garbage: bytes, at: int) -> None:
    hello = bytearray(records(message(sni(b"a.example") + alpn(b"h2"))))
    hello[at : at + len(garbage)] = garbage
    for data in (garbage, bytes(hello), b"\x16\x03\x01" + garbage):
        try:
            found = read_client_hello(data)
        except ClientHelloError as error:
            assert 0 < error.alert < 256
        else:
            assert isinstance(found, ClientHello) or found.count > 0


def test_an_alert_is_a_record() -> None:
    assert alert(112) == b"\x15\x03\x03\x00\x02\x02\x70"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(alert(112))
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        client.do_handshake()
