"""What TLS transports do, on both implementations: what the rest of the house relies on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.certs import authority, trusting
from tests.kit.talk import Talk
from wellhead.errors import SettingsError
from wellhead.net import tls
from wellhead.net.tls import accept_tls, client_context, connect_tls

BOTH_LOOPS = True


@pytest.fixture(params=["aiofastnet", "loop"], autouse=True)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The switch that is set by itself where aiofastnet is missing."""
    monkeypatch.setattr(tls, "USE_AIOFASTNET", request.param == "aiofastnet")
    return str(request.param)


async def accepted(context: ssl.SSLContext, sock: socket.socket, talk: Talk, seconds: float = 5) -> None:
    sock.setblocking(False)
    await accept_tls(sock, context, lambda: talk, handshake_seconds=seconds, shutdown_seconds=1)


@contextlib.asynccontextmanager
async def pair(tmp_path: Path, server: Talk, client: Talk) -> AsyncIterator[None]:
    """Two protocols on the two ends of a TLS connection over loopback."""
    ca = authority(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far = listener.accept()[0]
    near.setblocking(False)
    async with asyncio.timeout(10):
        await asyncio.gather(
            accepted(ca.leaf_context("a.localhost"), far, server),
            connect_tls(
                near, trusting(ca, ["http/1.1"]), lambda: client,
                server_hostname="a.localhost", handshake_seconds=5, shutdown_seconds=1,
            ),
        )  # fmt: skip
    try:
        yield
    finally:
        for talk in (client, server):
            talk.transport.abort()
            await talk.until("lost")


async def test_a_transport_knows_its_peer_its_socket_and_its_tls(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        transport = server.transport
        assert transport.get_extra_info("peername") == client.transport.get_extra_info("sockname")
        assert transport.get_extra_info("socket").family == socket.AF_INET
        assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_a_list_of_pieces_of_every_kind_arrives_in_order(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    big = bytes(range(256)) * 4096
    async with pair(tmp_path, server, client):
        server.transport.writelines(
            [b"a", bytearray(b"b"), memoryview(b"xcx")[1:2], b"", memoryview(big), big]
        )
        assert await client.hear(3 + 2 * len(big)) == b"abc" + big + big


async def test_a_view_may_be_reused_once_it_was_written(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        client.transport.pause_reading()
        room = bytearray(b"1" * 4_000_000)
        server.transport.writelines([memoryview(room)])
        room[:] = b"2" * len(room)
        client.transport.resume_reading()
        assert await client.hear(4_000_000) == b"1" * 4_000_000


async def test_a_writer_is_paused_at_its_limits_and_resumed(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        client.transport.pause_reading()
        server.transport.set_write_buffer_limits(high=32768, low=1024)
        while "pause" not in server.happened:
            server.transport.write(bytes(65536))
        assert server.transport.get_write_buffer_size() > 32768
        client.transport.resume_reading()
        await server.until("resume")
        assert server.transport.get_write_buffer_size() <= 1024


async def test_a_paused_reader_hears_nothing_until_it_goes_on(tmp_path: Path) -> None:
    server, client = Talk(), Talk(echo=True)
    async with pair(tmp_path, server, client):
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.write(b"x")
        client.transport.pause_reading()
        await asyncio.sleep(0.05)
        assert not server.heard
        server.transport.resume_reading()
        assert await server.hear(1) == b"x"


async def test_reading_can_be_paused_in_the_midst_of_what_arrived(tmp_path: Path) -> None:
    class Sip(Talk):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    server, client = Talk(), Sip()
    async with pair(tmp_path, server, client):
        server.transport.write(bytes(1_000_000))
        got = 0
        async with asyncio.timeout(10):
            while got < 1_000_000:
                await client.hear(got + 1)
                assert len(client.heard) - got <= 512 * 1024
                got = len(client.heard)
                client.transport.resume_reading()


async def test_there_is_no_half_close(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        assert not server.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            server.transport.write_eof()


async def test_close_writes_what_is_queued_and_the_peer_hears_an_end(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        server.transport.write(bytes(3_000_000))
        server.transport.close()
        assert len(await client.hear(3_000_000)) == 3_000_000
        await client.until("lost")
        await server.until("lost")
        assert client.happened.index("eof") < client.happened.index("lost")
        assert client.lost is None
        assert server.lost is None


async def test_abort_ends_a_connection_that_is_not_read(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        client.transport.pause_reading()
        server.transport.write(bytes(8_000_000))
        server.transport.abort()
        await server.until("lost")
        client.transport.resume_reading()
        await client.until("lost")
        assert len(client.heard) < 8_000_000


async def test_close_gives_up_a_peer_that_never_says_goodbye(tmp_path: Path) -> None:
    server, client = Talk(), Talk()
    async with pair(tmp_path, server, client):
        client.transport.pause_reading()
        server.transport.close()
        await server.until("lost")


async def test_a_handshake_that_stalls_is_ended_and_no_protocol_made(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    near, far = socket.socketpair()
    talk = Talk()
    with near, pytest.raises(OSError, match="handshake"):
        await accepted(ca.leaf_context("a.localhost"), far, talk, seconds=0.1)
    assert talk.happened == []
    assert far.fileno() == -1


async def test_a_peer_that_leaves_in_the_midst_of_a_handshake_is_not_reported(tmp_path: Path) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    ca = authority(tmp_path)
    near, far = socket.socketpair()
    near.close()
    with pytest.raises(ConnectionError):
        await accepted(ca.leaf_context("a.localhost"), far, Talk())
    assert reports == []


async def test_other_reports_still_reach_the_handler_that_was_there(tmp_path: Path) -> None:
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    async with pair(tmp_path, Talk(), Talk()):
        loop.call_exception_handler({"message": "kept"})
    assert reports == ["kept"]


async def test_a_protocol_that_cannot_be_made_ends_the_connection(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    def broken() -> Talk:
        raise ValueError("a bug")

    ca = authority(tmp_path)
    near, far = socket.socketpair()
    far.setblocking(False)
    near.setblocking(False)
    client = Talk()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(
            accept_tls(far, ca.leaf_context("a.localhost"), broken, handshake_seconds=5, shutdown_seconds=1),
            connect_tls(
                near, trusting(ca), lambda: client, server_hostname="a.localhost", handshake_seconds=5
            ),
            return_exceptions=True,
        )
    assert isinstance(outcomes[0], OSError)
    if client.connected:
        await client.until("lost")


def test_contexts_refuse_what_is_old(tmp_path: Path) -> None:
    for context in (tls.server_context(), client_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION
        for cipher in context.get_ciphers():
            assert cipher["aead"], cipher["name"]
            assert cipher["kea"] in ("kx-any", "kx-ecdhe"), cipher["name"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed_and_no_ticket_given(tmp_path: Path, version: ssl.TLSVersion) -> None:
    ca = authority(tmp_path)
    server, client = ca.leaf_context("a.localhost"), trusting(ca)
    client.minimum_version = client.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="a.localhost")
    for side in (theirs, ours, theirs, ours, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert theirs.version() is not None
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.read(1)
    session = theirs.session
    assert session is None or not session.has_ticket


def test_a_ca_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.pem cannot be read: No such file"):
        client_context(ca_file=tmp_path / "missing.pem")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(SettingsError, match=r"empty\.pem holds no certificate"):
        client_context(ca_file=tmp_path / "empty.pem")


def test_a_context_without_verification_says_so() -> None:
    context = client_context(verify=False)
    assert context.verify_mode == ssl.CERT_NONE
    assert "off" in context.trusts
