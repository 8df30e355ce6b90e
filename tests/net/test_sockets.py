from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from wellhead.errors import InputError, SettingsError
from wellhead.net.sockets import Address, begin_listening, bind, listen, parse_address

BOTH_LOOPS = True


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8443", "127.0.0.1", 8443),
        ("localhost:0", "localhost", 0),
        ("[::1]:80", "::1", 80),
        ("*:443", "*", 443),
        ("8000", "127.0.0.1", 8000),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", ":80", "a:", "a:b", "a:65536", "a:-1", "a:+1", "a:1_0", "::1:80", "[::1]", "[a]:1", "[::1]80",
     "http://a:1", "u@a:1", "a b:1", "a:٣", "a:000080"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InputError, match="address|port"):
        parse_address(text)


def test_addresses_are_written_as_they_are_read() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("a", 80)) == "a:80"


@contextlib.contextmanager
def listening(host: str = "127.0.0.1", port: int = 0, backlog: int = 16) -> Iterator[list[socket.socket]]:
    sockets = listen(host, port, backlog=backlog)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "*"])
def test_both_families_listen_on_one_port(host: str) -> None:
    with listening(host) as sockets:
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert all(not sock.getblocking() for sock in sockets)


def test_one_other_address_listens_alone() -> None:
    with listening("127.0.0.2") as sockets:
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.2"]


def test_a_port_that_is_taken_is_named() -> None:
    with listening() as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            listen("127.0.0.1", port)


def test_who_comes_before_somebody_listens_is_refused_and_the_address_is_taken_all_the_same() -> None:
    sockets = bind("127.0.0.1", 0)
    try:
        port = sockets[0].getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        with socket.socket() as stranger, pytest.raises(OSError, match="Address already in use"):
            stranger.bind(("127.0.0.1", port))
        begin_listening(sockets)
        socket.create_connection(("127.0.0.1", port)).close()
    finally:
        for sock in sockets:
            sock.close()


def test_who_was_quicker_to_listen_is_named() -> None:
    sockets = bind("127.0.0.1", 0)
    try:
        port = sockets[0].getsockname()[1]
        with listening("127.0.0.1", port):
            with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: address already"):
                begin_listening(sockets)
    finally:
        for sock in sockets:
            sock.close()


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1:0: cannot assign"):
        listen("192.0.2.1", 0)
