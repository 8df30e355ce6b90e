from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.kit.certs import authority, trusting
from tests.kit.talk import Talk, tls_server
from tests.net.test_sockets import listening
from wellhead.errors import DialError, TrustError
from wellhead.net import dialling
from wellhead.net.dialling import connect_first, dial, dial_tls, resolve
from wellhead.net.sockets import Address

BOTH_LOOPS = True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.b.localhost", "::1"])
async def test_loopback_names_are_dialled_without_dns(host: str) -> None:
    with listening() as sockets:
        (await dial(host, sockets[0].getsockname()[1], timeout_seconds=2)).close()


async def test_a_name_reaches_a_server_that_listens_on_one_family_only() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        sock = await dial("localhost", server.getsockname()[1], timeout_seconds=2)
        with sock:
            assert sock.family == socket.AF_INET6


async def test_a_refused_dial_says_where_and_why() -> None:
    with listening() as sockets:
        port = sockets[0].getsockname()[1]
    with pytest.raises(DialError, match=f"^localhost:{port}: connection refused$"):
        await dial("localhost", port, timeout_seconds=2)


async def test_a_name_that_does_not_exist_is_named() -> None:
    with pytest.raises(DialError, match=r"^nobody\.invalid: "):
        await resolve("nobody.invalid", 1)
    with pytest.raises(DialError, match="not a name"):
        await resolve("a" * 70 + ".example", 1)


@contextlib.contextmanager
def deaf() -> Iterator[Address]:
    """An address whose backlog is full: connections to it neither succeed nor fail."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        address = Address(*server.getsockname())
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address


async def test_an_address_that_does_not_answer_holds_up_the_next_by_a_quarter_second() -> None:
    with deaf() as silent, listening() as sockets:
        good = Address("127.0.0.1", sockets[0].getsockname()[1])
        async with asyncio.timeout(5):
            before = asyncio.get_running_loop().time()
            sock = await connect_first([silent, good])
            took = asyncio.get_running_loop().time() - before
        with sock:
            assert sock.getpeername()[1] == good.port
        assert 0.2 < took < 2


class Answering:
    """A socket whose ``connect`` answers what it is told to."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def connect(self, address: Address) -> None:
        if error := self._errors.pop(0):
            raise OSError(error, "as told")


@pytest.mark.parametrize(
    ("errors", "connected"),
    [
        ([0], True),
        ([errno.EINPROGRESS, 0], True),
        ([errno.EINPROGRESS, errno.EISCONN], True),
        ([errno.EINPROGRESS, errno.EALREADY], False),
    ],
)
def test_a_listener_on_this_machine_is_not_waited_for(errors: list[int], connected: bool) -> None:
    sock = cast(socket.socket, Answering(*errors))
    assert dialling._connects_at_once(sock, Address("127.0.0.1", 1)) is connected


def test_a_listener_on_this_machine_that_is_gone_is_known_at_once() -> None:
    sock = cast(socket.socket, Answering(errno.EINPROGRESS, errno.ECONNREFUSED))
    with pytest.raises(ConnectionRefusedError):
        dialling._connects_at_once(sock, Address("127.0.0.1", 1))


async def test_a_dial_that_takes_too_long_names_the_bound() -> None:
    with deaf() as silent:
        with pytest.raises(DialError, match=r"no connection within 0\.2 s"):
            await dial(silent.host, silent.port, timeout_seconds=0.2)


async def test_a_cancelled_dial_closes_what_it_began() -> None:
    with deaf() as silent:
        task = asyncio.create_task(dial(silent.host, silent.port, timeout_seconds=5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# TLS


async def test_a_dial_over_tls_connects_the_protocol_after_the_handshake(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with tls_server(ca.leaf_context("a.localhost", ["wellhead/1"])) as (port, _):
        transport, talk = await dial_tls(
            "a.localhost", port, context=trusting(ca, ["wellhead/1"]), protocol_factory=Talk,
            alpn="wellhead/1", timeout_seconds=5,
        )  # fmt: skip
        assert talk.transport is transport
        assert await talk.hear(7) == b"welcome"
        assert transport.get_extra_info("peername")[1] == port
        transport.abort()


async def test_the_name_verified_may_differ_from_the_address_dialled(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with tls_server(ca.leaf_context("edge.example")) as (port, _):
        transport, _ = await dial_tls(
            "127.0.0.1", port, server_hostname="edge.example", context=trusting(ca), protocol_factory=Talk
        )
        transport.abort()


async def test_an_untrusted_certificate_is_refused_before_a_byte_of_ours_is_sent(tmp_path: Path) -> None:
    ca, other = authority(tmp_path / "1"), authority(tmp_path / "2")
    async with tls_server(ca.leaf_context("a.localhost")) as (port, talks):
        with pytest.raises(TrustError) as caught:
            await dial_tls(
                "a.localhost", port, context=trusting(other), protocol_factory=lambda: Talk(b"secret")
            )
        assert f"a.localhost:{port}" in str(caught.value)
        assert str(other.ca_file) in str(caught.value)
        assert all(not talk.heard for talk in talks)


async def test_a_certificate_for_another_name_is_refused_and_both_are_named(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with tls_server(ca.leaf_context("a.localhost")) as (port, _):
        with pytest.raises(TrustError, match=rf"127\.0\.0\.1:{port}: .* another name than b\.localhost"):
            await dial_tls(
                "127.0.0.1", port, server_hostname="b.localhost", context=trusting(ca), protocol_factory=Talk
            )
        with pytest.raises(TrustError, match=r"another name than 127\.0\.0\.1"):
            await dial_tls("127.0.0.1", port, context=trusting(ca), protocol_factory=Talk)


async def test_a_server_that_does_not_speak_our_protocol_hears_no_word_of_it(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    async with tls_server(ca.leaf_context("a.localhost", ["http/1.1"])) as (port, talks):
        with pytest.raises(DialError, match="does not speak wellhead/1"):
            await dial_tls(
                "a.localhost", port, context=trusting(ca, ["wellhead/1"]), alpn="wellhead/1",
                protocol_factory=lambda: Talk(b"secret"),
            )  # fmt: skip
        assert all(not talk.heard for talk in talks)


async def test_a_server_without_tls_is_a_dial_error() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DialError, match="TLS handshake"):
            context = ssl.create_default_context()
            await dial_tls("a.localhost", port, context=context, protocol_factory=Talk, timeout_seconds=5)


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with listening() as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(DialError, match=r"no TLS connection within 0\.2 s"):
            context = ssl.create_default_context()
            await dial_tls("a.localhost", port, context=context, protocol_factory=Talk, timeout_seconds=0.2)
