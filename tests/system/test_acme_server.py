"""A server whose certificates come from a real ACME authority, over its own ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.kit.pebble import ChallengeDns, Pebble
from tests.kit.programs import Edge, quiet_port
from tests.kit.upstreams import Peer, serving

pytestmark = [pytest.mark.system, pytest.mark.needs("pebble", "pebble-challtestsrv", "named")]

DOMAIN = "example.test"


@contextlib.contextmanager
def public_server(
    home: Path, *, life_seconds: int | None = None, **settings: object
) -> Iterator[tuple[Edge, Pebble]]:
    """A server with ``issuer = acme`` and the authority that it asks."""
    https, http = quiet_port(), quiet_port()
    with (
        ChallengeDns() as dns,
        Pebble(home / "pebble", http=http, tls=https, dns=dns.port, life_seconds=life_seconds) as pebble,
    ):
        chosen = {
            "issuer": "acme",
            "acme_directory": pebble.directory,
            "acme_ca_file": pebble.ca_file,
            "domain": DOMAIN,
            "zone": "127.0.0.1",
            **settings,
        }
        with Edge(
            home / ".wellhead", settings=chosen, https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}"
        ) as edge:
            yield edge, pebble


def shown(edge: Edge, hostname: str) -> x509.Certificate:
    """The certificate that a visitor of a name is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname=hostname) as tls,
    ):
        der = tls.getpeercert(True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def await_public(edge: Edge, hostname: str, seconds: float = 60.0) -> x509.Certificate:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = shown(edge, hostname)
            if "Pebble" in found.issuer.rfc4514_string():
                return found
        time.sleep(0.05)
    raise AssertionError(f"no public certificate for {hostname}:\n{edge.text[-4000:]}")


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_the_domain_and_a_tunnel_get_public_certificates_over_the_edges_own_ports(
    tmp_path: Path, challenge: str
) -> None:
    with public_server(tmp_path, acme_challenge=challenge) as (edge, pebble):
        assert await_public(edge, DOMAIN)
        with edge.agent(quiet_port()) as agent:
            hostname = agent.hostname
            found = await_public(edge, hostname)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [hostname]
        assert pebble.orders == 2


class Load:
    """Visitors who check what they are shown: some with a new connection for each request, some with one."""

    def __init__(self, port: int, hostname: str, root_pem: str) -> None:
        self.hostname = hostname
        self.serials: list[int] = []  # as new connections saw them, each once
        self.kept = 0  # requests on connections that were kept
        self.failures: list[str] = []
        self._port = port
        self._context = ssl.create_default_context(cadata=root_pem)
        self._over, self._news = asyncio.Event(), asyncio.Event()

    async def until_renewed(self, times: int, seconds: float) -> None:
        """Go on until new connections have seen so many renewals."""
        visitors = [self._new(), self._new(), self._keep(), self._keep()]
        tasks = [asyncio.create_task(visitor) for visitor in visitors]
        try:
            async with asyncio.timeout(seconds):
                while len(self.serials) <= times and not self._over.is_set():
                    self._news.clear()
                    await self._news.wait()
        finally:
            self._over.set()
            await asyncio.gather(*tasks)

    async def _new(self) -> None:
        while not self._over.is_set():
            await self._visit(keep=False)

    async def _keep(self) -> None:
        await self._visit(keep=True)

    async def _visit(self, *, keep: bool) -> None:
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._context, server_hostname=self.hostname
            )
            der = writer.get_extra_info("ssl_object").getpeercert(True)
            serial = x509.load_der_x509_certificate(der).serial_number
            if serial not in self.serials:
                self.serials.append(serial)
                self._news.set()
            await self._ask(reader, writer)
            while keep and not self._over.is_set():
                await self._ask(reader, writer)
                self.kept += 1
                await asyncio.sleep(0.02)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            self._over.set()
            self._news.set()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET / HTTP/1.1\r\nHost: {self.hostname}:{self._port}\r\n\r\n".encode())
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert await reader.readexactly(2) == b"ok"


LIFE_SECONDS = 15  # renewed after ten of them


@pytest.mark.slow
async def test_a_short_lived_certificate_renews_itself_three_times_under_load_with_no_failed_request(
    tmp_path: Path,
) -> None:
    async def ok(peer: Peer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await peer.request():
                await peer.reply(b"ok")

    async with serving(ok) as upstream:
        with public_server(tmp_path, life_seconds=LIFE_SECONDS) as (edge, pebble):
            with edge.agent(upstream.port) as agent:
                first = await asyncio.to_thread(await_public, edge, agent.hostname)
                load = Load(edge.https, agent.hostname, pebble.root())
                await load.until_renewed(3, 55)
                assert not load.failures, f"{load.failures}\n{edge.text[-4000:]}"
                assert load.serials[0] == first.serial_number or len(load.serials) > 3
                assert load.kept > 100
