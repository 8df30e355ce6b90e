"""A gibibyte up and down: the same bytes, and no body held in memory."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import bulk_server
from tests.kit.bulk_server import blocks
from tests.kit.programs import Edge, Program

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(150)]

SIZE = int(os.environ.get("BULK_BYTES", 1024**3))
GROWTH = 64 * 1024 * 1024  # most bytes that a program may grow by


@pytest.fixture(scope="module")
def digest() -> str:
    sha = hashlib.sha256()
    for block in blocks(SIZE):
        sha.update(block)
    return sha.hexdigest()


@pytest.fixture(scope="module")
def bulk() -> Iterator[int]:
    """The port of an upstream in a process of its own."""
    with Program([sys.executable, str(Path(bulk_server.__file__))]) as server:
        yield int(server.line(r"^port (\d+)$")[1])


def test_a_gibibyte_comes_down_and_goes_up_unchanged_and_unheld(
    tmp_path: Path, bulk: int, digest: str
) -> None:
    with Edge(tmp_path) as edge, edge.agent(bulk) as agent:
        host = f"{agent.hostname}:{edge.https}"
        _exchange(edge, agent.hostname, f"GET /bytes/1000 HTTP/1.1\r\nHost: {host}\r\n\r\n")  # warm
        before = [program.memory()[0] for program in (edge, agent)]
        for program in (edge, agent):
            program.forget_peak()
        assert _download(edge, agent.hostname, host) == digest
        assert _upload(edge, agent.hostname, host) == digest
        growth = [program.memory()[1] - start for program, start in zip((edge, agent), before, strict=True)]
        assert max(growth) <= GROWTH, [f"{each / 1024 / 1024:.1f} MiB" for each in growth]


def _connect(edge: Edge, hostname: str) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", edge.https), timeout=60)
    return edge.trust().wrap_socket(sock, server_hostname=hostname)


def _exchange(edge: Edge, hostname: str, text: str) -> None:
    with _connect(edge, hostname) as tls:
        tls.sendall(text.encode())
        assert tls.recv(64).startswith(b"HTTP/1.1 200 ")


def _download(edge: Edge, hostname: str, host: str) -> str:
    sha, buffer = hashlib.sha256(), bytearray(1024 * 1024)
    view = memoryview(buffer)
    with _connect(edge, hostname) as tls:
        tls.sendall(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        got = tls.recv_into(buffer)
        head, _, rest = bytes(view[:got]).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"ontent-" in head
        sha.update(rest)
        left = SIZE - len(rest)
        while left:
            got = tls.recv_into(buffer, min(left, len(buffer)))
            assert got, f"the reply ended {left} bytes early"
            sha.update(view[:got])
            left -= got
    return sha.hexdigest()


def _upload(edge: Edge, hostname: str, host: str) -> str:
    with _connect(edge, hostname) as tls:
        tls.sendall(f"PUT /hash HTTP/1.1\r\nHost: {host}\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        for block in blocks(SIZE):
            tls.sendall(block)
        reply = b""
        while len(reply.partition(b"\r\n\r\n")[2]) < 64:
            piece = tls.recv(4096)
            assert piece, reply
            reply += piece
    return reply.partition(b"\r\n\r\n")[2].decode()
