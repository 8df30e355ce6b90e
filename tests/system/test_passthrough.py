"""A passthrough tunnel whose upstream ends TLS by itself: the real programs, and bytes as they are."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kit.certs import client_hello, in_records, padded
from tests.kit.programs import Agent, Edge, Program, eventually, listens, quiet_port
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import PATIENCE, ask, visiting
from wellhead.agent.certificate import make_request
from wellhead.client import Client
from wellhead.model.access import Secret
from wellhead.model.records import TlsMode, Tunnel, TunnelStatus

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

NAME = "sealed"
ALERT = b"\x15\x03\x03\x00\x02\x02"  # fatal, then its number; RFC 8446 section 6
UNEXPECTED_MESSAGE, INTERNAL_ERROR, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 10, 80, 112, 120


@dataclass
class Sealed:
    """A server, a passthrough tunnel with a certificate, and an agent that hands on to ``port``."""

    edge: Edge
    tunnel: Tunnel
    directory: Path
    port: int
    agent: Agent

    @property
    def hostname(self) -> str:
        return self.tunnel.public_host

    @property
    def hello(self) -> bytes:
        return client_hello(self.hostname, ["h2", "http/1.1"])


def client_of(edge: Edge) -> Client:
    return Client(edge.api.removesuffix("/api/v1"), Secret(edge.key), ca_file=edge.ca)


def make_tunnel(edge: Edge, directory: Path, name: str = NAME) -> Tunnel:
    """One with a certificate, in ``chain.pem`` and ``key.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    with client_of(edge) as client:
        tunnel = client.tunnels.create(name, tls_mode=TlsMode.PASSTHROUGH).tunnel
        assert tunnel.status is TunnelStatus.AWAITING_CERT
        signed = client.tunnels.sign_csr(tunnel.id, make_request(key, tunnel.public_host))
        (directory / "chain.pem").write_text(signed.cert_pem + signed.chain_pem)
        (directory / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return client.tunnels.get(tunnel.id)


@contextlib.contextmanager
def making(directory: Path, **settings: object) -> Iterator[Sealed]:
    with Edge(directory, settings=settings) as edge:
        tunnel, port = make_tunnel(edge, directory), quiet_port()
        with edge.agent(f"tls://127.0.0.1:{port}", "--name", NAME) as agent:
            yield Sealed(edge, tunnel, directory, port, agent)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    with making(tmp_path_factory.mktemp("sealed")) as made:
        yield made


@contextlib.asynccontextmanager
async def raw(
    sealed: Sealed, hello: bytes | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which a ClientHello was said."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", sealed.edge.https)
    writer.write(sealed.hello if hello is None else hello)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def told(sealed: Sealed, hello: bytes) -> bytes:
    """All that a visitor hears who says this and ends its half."""
    async with raw(sealed, hello) as (reader, writer), asyncio.timeout(PATIENCE):
        return await reader.read()


def output(command: list[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
    )
    return done.stdout.decode(errors="replace")


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# Whom a visitor talks to


NGINX = """daemon off; pid {home}/pid; error_log stderr warn; master_process off;
events {{}}
http {{ access_log off; server {{
  listen 127.0.0.1:{port} ssl http2; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate {home}/chain.pem; ssl_certificate_key {home}/key.pem;
  location / {{ return 200 "sealed $ssl_protocol $server_protocol\\n"; }}
}} }}
"""


@pytest.fixture
def nginx(sealed: Sealed) -> Iterator[Program]:
    home = sealed.directory
    (home / "nginx.conf").write_text(NGINX.format(home=home, port=sealed.port))
    with Program(["nginx", "-p", str(home), "-c", str(home / "nginx.conf")]) as program:
        eventually(lambda: listens(sealed.port), 20)
        yield program


def test_curl_trusts_the_upstreams_own_certificate_and_speaks_http2_with_it(
    sealed: Sealed, nginx: Program
) -> None:
    url = f"https://{sealed.hostname}:{sealed.edge.https}/"
    common = ["curl", "-sS", "--max-time", "20", "--cacert", str(sealed.edge.ca), url]
    assert output([*common, "--http2"]) == "sealed TLSv1.3 HTTP/2.0\n"
    assert output([*common, "--http1.1", "--tls-max", "1.2"]) == "sealed TLSv1.2 HTTP/1.1\n"


def test_openssl_is_shown_the_certificate_that_was_signed(sealed: Sealed, nginx: Program) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{sealed.edge.https}", "-alpn", "h2"]
    command += [
        "-servername",
        sealed.hostname.upper(),
        "-CAfile",
        str(sealed.edge.ca),
        "-verify_return_error",
    ]
    said = output([*command, "-verify_hostname", sealed.hostname])
    assert "Verify return code: 0 (ok)" in said and "ALPN protocol: h2" in said
    shown = said[said.index("-----BEGIN CERT") : said.index("-----END CERT")]
    assert shown.split() == (sealed.tunnel.cert_pem or "").split("-----END CERT")[0].split()


# Bytes


def dotted(sealed: Sealed) -> bytes:
    """A hello whose server name has a trailing dot and capitals."""
    name = sealed.hostname.encode()
    return client_hello("x" + sealed.hostname).replace(b"x" + name, name.upper() + b".")


SHAPES: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "at once": lambda hello: (hello, 1 << 20),
    "in segments of 7": lambda hello: (hello, 7),
    "in records of 1": lambda hello: (in_records(hello, 1), 1 << 20),
    "in records of 50 and segments of 11": lambda hello: (in_records(hello, 50), 11),
    "of 16 KiB": lambda hello: (in_records(padded(hello, 16384), 16384), 1400),
    "of 64 KiB": lambda hello: (in_records(padded(hello, 65536), 16384), 9000),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_client_hello_arrives_as_it_was_said(sealed: Sealed, shape: str) -> None:
    hello, size = SHAPES[shape](dotted(sealed) if shape == "at once" else sealed.hello)
    said = hello + os.urandom(5000)

    async def upstream(peer: Peer) -> None:
        await peer.say(await peer.body(len(said)))

    async with serving(upstream, port=sealed.port), raw(sealed, b"") as (reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(said), size):
            writer.write(said[at : at + size])
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(len(said)) == said


async def test_large_bodies_pass_both_ways_at_once_and_whole(sealed: Sealed) -> None:
    block, count = os.urandom(1 << 20), 32
    expected = hashlib.sha256(block * count).hexdigest()

    async def send(writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    async def receive(reader: asyncio.StreamReader) -> str:
        digest = hashlib.sha256()
        while piece := await reader.read(1 << 18):
            digest.update(piece)
        return digest.hexdigest()

    there: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.body(len(sealed.hello))
        sending = asyncio.create_task(send(peer.writer))
        there.set_result(await receive(peer.reader))
        await sending

    async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
        async with asyncio.timeout(120):
            sending = asyncio.create_task(send(writer))
            here = await receive(reader)
            await sending
            assert (here, await there) == (expected, expected)


async def test_a_visitor_that_reads_nothing_costs_little_and_holds_the_upstream_back(sealed: Sealed) -> None:
    said = 0

    async def upstream(peer: Peer) -> None:
        nonlocal said
        await peer.body(len(sealed.hello))
        while True:
            await peer.say(bytes(1 << 18))
            said += 1 << 18

    programs = (sealed.edge, sealed.agent)
    before = [program.memory()[0] for program in programs]
    async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's is one that reads
        seen = -1
        async with asyncio.timeout(PATIENCE):
            while said != seen or not said:  # until it stands still
                seen = said
                await asyncio.sleep(0.5)
        grown = [program.memory()[0] - old for program, old in zip(programs, before, strict=True)]
    assert said < 40 << 20 and max(grown) < 24 << 20, (said, grown)


# Ends


async def test_the_visitor_ends_its_half_and_still_hears_the_upstream(sealed: Sealed) -> None:
    async def upstream(peer: Peer) -> None:
        said = await peer.reader.read()
        await peer.say(b"heard %d" % len(said))

    async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
        writer.write(b"more")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"heard %d" % (len(sealed.hello) + 4)


async def test_the_upstream_ends_its_half_and_still_hears_the_visitor(sealed: Sealed) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.body(len(sealed.hello))
        await peer.say(b"done")
        peer.writer.write_eof()
        heard.set_result(await peer.reader.read())

    async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"done"
            writer.write(b"still here")
            writer.write_eof()
            assert await heard == b"still here"


async def least(measure: Callable[[], Awaitable[float]]) -> float:
    """The shortest of three times: a busy machine adds to each."""
    return min([await measure() for _ in range(3)])


async def test_a_reset_of_either_side_reaches_the_other_within_a_second(sealed: Sealed) -> None:
    async def by_upstream() -> float:
        async def upstream(peer: Peer) -> None:
            await peer.body(len(sealed.hello))
            await peer.say(b"x")
            await peer.body(1)
            peer.reset()

        async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
            async with asyncio.timeout(PATIENCE):
                assert await reader.readexactly(1) == b"x"
                began = time.monotonic()
                writer.write(b"y")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            return time.monotonic() - began

    async def by_visitor() -> float:
        over: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def upstream(peer: Peer) -> None:
            await peer.body(len(sealed.hello))
            await peer.say(b"x")
            with pytest.raises(ConnectionResetError):
                await peer.reader.read()
            over.set_result(time.monotonic())

        async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
            async with asyncio.timeout(PATIENCE):
                await reader.readexactly(1)
                began = time.monotonic()
                reset(writer)
                return await over - began

    assert await least(by_upstream) < 1
    assert await least(by_visitor) < 1


async def test_a_visitor_that_resets_while_the_upstream_reads_nothing_is_noticed(sealed: Sealed) -> None:
    over: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await go_on.wait()
        with pytest.raises(ConnectionResetError):
            while await peer.reader.read(1 << 16):
                pass
        over.set_result(time.monotonic())

    async with serving(upstream, port=sealed.port), raw(sealed) as (_, writer):
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(TimeoutError):
                while True:
                    writer.write(bytes(1 << 16))
                    async with asyncio.timeout(1):
                        await writer.drain()
            reset(writer)
            eventually(lambda: "reason=visitor-left" in sealed.edge.lines[-1], 10)
            go_on.set()
            await over


async def test_a_half_closed_connection_on_which_nothing_moves_is_ended(tmp_path: Path) -> None:
    with making(tmp_path, passthrough_half_close_seconds=1, passthrough_idle_seconds=2) as sealed:

        async def silent(peer: Peer) -> None:
            await peer.closed()
            await peer.closed()
            await asyncio.sleep(PATIENCE)

        async with serving(silent, port=sealed.port):
            async with raw(sealed) as (reader, writer), asyncio.timeout(PATIENCE):
                writer.write_eof()
                assert await reader.read() == b""
            sealed.edge.line("access tunnel=sealed .*reason=half-close", PATIENCE)
            async with raw(sealed) as (reader, writer), asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            sealed.edge.line("access tunnel=sealed .*reason=idle", PATIENCE)

            # The agent is killed in the midst: a visitor that was told nothing yet hears an alert.
            async with raw(sealed) as (reader, writer), asyncio.timeout(PATIENCE):
                await asyncio.to_thread(sealed.agent.kill)
                assert await reader.read() == ALERT + bytes([INTERNAL_ERROR])


async def test_a_killed_agent_is_a_reset_and_a_drain_lets_what_runs_finish(tmp_path: Path) -> None:
    with making(tmp_path, drain_seconds=20) as sealed:
        finish = asyncio.Event()

        async def upstream(peer: Peer) -> None:
            await peer.body(len(sealed.hello))
            await peer.say(b"begun")
            await finish.wait()
            await peer.say(b" and whole")

        async with serving(upstream, port=sealed.port):
            async with raw(sealed) as (reader, _), asyncio.timeout(PATIENCE):
                assert await reader.readexactly(5) == b"begun"
                began = time.monotonic()
                sealed.agent.kill()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                assert time.monotonic() - began < 1 + sealed.edge.kept_waiting()
            assert await told(sealed, sealed.hello) == ALERT + bytes([INTERNAL_ERROR])
            sealed.edge.line("connection refused reason=no-agent", PATIENCE)
            with sealed.edge.agent(f"tls://127.0.0.1:{sealed.port}", "--name", NAME):
                async with raw(sealed) as (reader, writer), asyncio.timeout(2 * PATIENCE):
                    assert await reader.readexactly(5) == b"begun"
                    sealed.edge.signal(15)
                    await asyncio.to_thread(sealed.edge.line, "draining", PATIENCE)
                    finish.set()
                    assert await reader.read() == b" and whole"
                    writer.write_eof()
                assert await asyncio.to_thread(sealed.edge.wait, 20) == 0


# Who is not let in


async def test_names_and_hellos_that_are_not_served_are_told_so(sealed: Sealed) -> None:
    with client_of(sealed.edge) as client:
        waiting = client.tunnels.create("sealed-waiting", tls_mode=TlsMode.PASSTHROUGH).tunnel
        removed = client.tunnels.create("sealed-removed", tls_mode=TlsMode.PASSTHROUGH).tunnel
        client.tunnels.delete(removed.id)
    cases = {
        client_hello(waiting.public_host): UNRECOGNIZED_NAME,
        client_hello(removed.public_host): UNRECOGNIZED_NAME,
        client_hello(sealed.hostname, ["acme-tls/1"]): NO_APPLICATION_PROTOCOL,
        client_hello(sealed.hostname, ["h2", "acme-tls/1"]): NO_APPLICATION_PROTOCOL,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\n" + sealed.hello: UNEXPECTED_MESSAGE,
        b"GET / HTTP/1.1\r\n\r\n": UNEXPECTED_MESSAGE,
    }

    async def upstream(peer: Peer) -> None:
        raise AssertionError("this visitor was to go no further than the edge")

    async with serving(upstream, port=sealed.port) as server:
        for hello, alert in cases.items():
            assert (await told(sealed, hello))[-7:] == ALERT + bytes([alert]), hello[:40]
        assert server.peers == []


async def test_an_upstream_with_a_certificate_of_its_own_is_served_without_one_of_the_servers(
    sealed: Sealed,
) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.body(len(hello))
        await peer.say(b"its own")

    port = quiet_port()
    with client_of(sealed.edge) as client:
        tunnel = client.tunnels.create("sealed-own", tls_mode=TlsMode.PASSTHROUGH).tunnel
        hello = client_hello(tunnel.public_host)
        assert await told(sealed, hello) == ALERT + bytes([UNRECOGNIZED_NAME])
        with sealed.edge.agent(f"tls://127.0.0.1:{port}", "--name", "sealed-own"):
            async with serving(upstream, port=port), raw(sealed, hello) as (reader, _):
                async with asyncio.timeout(PATIENCE):
                    assert await reader.readexactly(7) == b"its own"
        assert client.tunnels.get(tunnel.id).status is TunnelStatus.AWAITING_CERT


async def test_an_upstream_that_is_not_there_is_an_alert(sealed: Sealed) -> None:
    assert await told(sealed, sealed.hello) == ALERT + bytes([INTERNAL_ERROR])
    sealed.edge.line("access tunnel=sealed .*reason=upstream-unreachable", PATIENCE)


async def test_a_plain_request_is_sent_to_https(sealed: Sealed) -> None:
    async with visiting(sealed.edge, None) as visitor:
        reply = await visitor.get("/a?b=c", sealed.hostname)
        there = f"https://{sealed.hostname}:{sealed.edge.https}/a?b=c"
        assert (reply.status, reply.get("location")) == (308, there)
        assert (await visitor.get("/.well-known/acme-challenge/token", sealed.hostname)).status == 404


async def test_a_connection_has_one_access_line_and_is_counted(sealed: Sealed) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.body(len(sealed.hello))
        await peer.say(bytes(1000))

    before = sealed.edge.mark()
    async with serving(upstream, port=sealed.port), raw(sealed) as (reader, writer):
        async with asyncio.timeout(PATIENCE):
            assert len(await reader.read()) == 1000
        writer.write_eof()
        size = len(sealed.hello)
        sealed.edge.line(
            rf"access tunnel=sealed peer=127.0.0.1 method=TLS target=- status=0 in={size} out=1000 "
            r"first_ms=[0-9.]+ ms=[0-9.]+ id=\w+ carrier=mux$",
            PATIENCE,
            after=before,
        )
        sealed.agent.line(rf"^TCP    127.0.0.1 --- .* 1.0 kB \(in {size} B\)$", PATIENCE)
    counted = (await ask(sealed.edge, "localhost", "/metrics")).body.decode()
    assert 'wellhead_exchanges_total{place="tunnel",status="raw"}' in counted
