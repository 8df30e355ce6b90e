from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from tests.kit.certs import authority, trusting
from tests.kit.talk import Talk
from wellhead.net.socket_options import reset_on_close, tune, unsent

BOTH_LOOPS = True


def test_a_connection_is_tuned_and_a_unix_socket_left_alone() -> None:
    with socket.socket() as sock:
        tune(sock, user_timeout_seconds=15)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15000
    left, right = socket.socketpair()
    with left, right:
        tune(left)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_leaves_the_kernel_nothing_to_hold_for_a_slow_reader(tmp_path: Path, tls: bool) -> None:
    ca = authority(tmp_path)
    served: asyncio.Queue[Talk] = asyncio.Queue()

    class Full(Talk):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            served.put_nowait(self)

    loop = asyncio.get_running_loop()
    context = ca.leaf_context("a.localhost") if tls else None
    async with await loop.create_server(Full, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=1, ssl=trusting(ca) if tls else None,
            server_hostname="a.localhost" if tls else None,
        )  # fmt: skip
        transport = (await served.get()).transport
        transport.write(bytes(16 * 1024 * 1024))
        reset_on_close(transport)
        transport.abort()
        with pytest.raises(ConnectionResetError):
            while await reader.read(65536):
                pass
        writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_what_the_kernel_has_not_sent_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    with far:
        assert unsent(transport) == 0
        transport.write(bytes(32 << 20))
        assert unsent(transport) > 0, "nobody reads"
        transport.abort()
    await asyncio.sleep(0.01)
    assert unsent(transport) == 0
