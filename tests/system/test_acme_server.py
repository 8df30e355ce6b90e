"""A server whose certificates come from a real ACME authority, over its own ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kit.bind import KEY_NAME, SECRET, NameServer
from tests.kit.csr import request_for
from tests.kit.pebble import ChallengeDns, Pebble
from tests.kit.programs import Edge, eventually, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer, serving
from wellhead import private

pytestmark = [pytest.mark.system, pytest.mark.needs("pebble", "pebble-challtestsrv", "named")]

DOMAIN = "example.test"
OWN_KEY = ("--name", "own-key", "--tls-mode", "passthrough")
NOWHERE = "https://127.0.0.1:1/dir"  # nobody listens on port 1


@contextlib.contextmanager
def public_server(
    home: Path, *, life_seconds: int | None = None, dns: int | None = None, **settings: object
) -> Iterator[tuple[Edge, Pebble]]:
    """A server with ``issuer = acme`` and the authority that it asks."""
    https, http = quiet_port(), quiet_port()
    with (
        ChallengeDns() as every_name,
        Pebble(
            home / "pebble", http=http, tls=https, dns=dns or every_name.port, life_seconds=life_seconds
        ) as pebble,
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


@contextlib.contextmanager
def rest(edge: Edge) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=edge.api, verify=edge.trust(), headers={"X-API-Key": edge.key}, timeout=60
    ) as client:
        yield client


def names_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def metric(edge: Edge, name: str) -> list[str]:
    with rest(edge) as client:
        found = client.get(edge.api.removesuffix("/api/v1") + "/metrics").text
    return [line for line in found.splitlines() if line.startswith(name)]


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_edge_names_and_tenants_requests_are_proved_over_the_edges_own_ports(
    tmp_path: Path, challenge: str
) -> None:
    with public_server(tmp_path, acme_challenge=challenge) as (edge, pebble):
        assert names_of(await_public(edge, DOMAIN)) == [DOMAIN]
        with edge.agent(quiet_port()) as agent:
            assert names_of(await_public(edge, agent.hostname)) == [agent.hostname]
        assert pebble.orders == 2
        with rest(edge) as api:
            made = api.post("/tunnels", json={"tunnel_name": "own-key", "tls_mode": "passthrough"}).json()
            path, hostname = f"/tunnels/{made['tunnel']['id']}/sign-csr", f"own-key.{DOMAIN}"
            for refused in (request_for(DOMAIN), request_for(hostname, DOMAIN), request_for(f"*.{hostname}")):
                assert api.post(path, json={"csr_pem": pem(refused)}).status_code == 400
            assert pebble.orders == 2, "a refused request makes no order"
            request = {"csr_pem": pem(request_for(hostname))}
            with ThreadPoolExecutor(3) as threads:
                signed = list(threads.map(lambda _: api.post(path, json=request), range(3)))
            assert [one.status_code for one in signed] == [200] * 3
            assert len({one.text for one in signed}) == 1
            leaf = x509.load_pem_x509_certificate(signed[0].json()["cert_pem"].encode())
            assert names_of(leaf) == [hostname]
        assert pebble.orders == 3, "the same request asked for three times is one order"
        assert metric(edge, "wellhead_certificate_orders_failing ") == [
            "wellhead_certificate_orders_failing 0.0"
        ]


def pem(request: x509.CertificateSigningRequest) -> str:
    return request.public_bytes(Encoding.PEM).decode()


def test_a_wildcard_by_dns_updates_is_there_for_every_tunnel_and_lives_through_restarts(
    tmp_path: Path,
) -> None:
    port = quiet_port()
    private.write(tmp_path / "tsig", SECRET + "\n")
    with NameServer(tmp_path / "bind", DOMAIN, port):
        with public_server(
            tmp_path,
            dns=port,
            acme_challenge="dns-01",
            dns_provider="rfc2136",
            dns_server=f"127.0.0.1:{port}",
            dns_resolver=f"127.0.0.1:{port}",
            dns_tsig_name=KEY_NAME,
            dns_tsig_secret_file=tmp_path / "tsig",
        ) as (edge, pebble):
            found = await_public(edge, f"any.{DOMAIN}")
            assert sorted(names_of(found)) == [f"*.{DOMAIN}", DOMAIN]
            with edge.agent(quiet_port()) as agent:
                assert shown(edge, agent.hostname) == found
            before = edge.control().pid
            os.kill(before, SIGKILL)
            edge.line("control plane is back")
            assert shown(edge, DOMAIN) == found
            assert pebble.orders == 1


def test_a_stop_in_the_midst_of_an_order_waits_for_no_dns(tmp_path: Path) -> None:
    program, begun = tmp_path / "hook", tmp_path / "begun"
    program.write_text(f"#!/bin/sh\necho $1 >> {begun}\nsleep 600\n")
    program.chmod(0o700)
    with (
        ChallengeDns() as dns,
        public_server(
            tmp_path,
            dns=dns.port,
            dns_resolver=f"127.0.0.1:{dns.port}",
            acme_challenge="dns-01",
            dns_provider="command",
            dns_command=program,
        ) as (edge, _),
    ):
        eventually(begun.exists, 60)
        watch = Stopwatch(edge)
        assert edge.stop() == 0
        assert watch.seconds() < 9
        assert "proofs not removed" in edge.text and "Traceback" not in edge.text
        assert "killed" not in edge.text and "did not end" not in edge.text
    assert begun.read_text().splitlines()[-1] == "remove", "it was begun"


def test_without_its_authority_a_server_starts_and_says_what_it_lacks(tmp_path: Path) -> None:
    with public_server(tmp_path, acme_directory=NOWHERE) as (edge, _):
        edge.line(r"certificate not issued name=example\.test reason=away .*again_in_seconds=")
        with pytest.raises(ssl.SSLError, match="(?i)internal.error"):
            shown(edge, DOMAIN)
        assert metric(edge, "wellhead_certificate_orders_failing ") == [
            "wellhead_certificate_orders_failing 1.0"
        ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"acme_challenge": "dns-01"}, "dns_provider: needed, because acme_challenge is dns-01"),
        (
            {
                "acme_challenge": "dns-01",
                "dns_provider": "rfc2136",
                "dns_server": "127.0.0.1",
                "dns_tsig_name": "key",
                "dns_tsig_secret_file": "/nowhere/tsig",
            },
            "dns_tsig_secret_file: /nowhere/tsig is missing",
        ),
        ({"acme_ca_file": "/nowhere/ca.pem"}, "acme_ca_file: cannot read /nowhere/ca.pem"),
    ],
)
def test_a_start_says_what_the_issuer_lacks(tmp_path: Path, settings: dict[str, str], says: str) -> None:
    nowhere = {"issuer": "acme", "domain": DOMAIN, "acme_directory": NOWHERE}
    with Edge(tmp_path, settings={**nowhere, **settings}, wait=False) as edge:
        assert edge.wait() == 3
        assert says in edge.text and "Traceback" not in edge.text


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
async def test_short_lived_certificates_renew_themselves_three_times_under_load_with_no_failed_request(
    tmp_path: Path,
) -> None:
    """One that the edge shows, and one that an agent shows for a key of its own."""

    async def ok(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"ok")

    often = {"issue_budget_per_name_per_week": 100, "csr_per_tunnel_per_hour": 100}
    async with serving(ok) as upstream:
        with public_server(tmp_path, life_seconds=LIFE_SECONDS, **often) as (edge, pebble):
            with edge.agent(upstream.port) as ours, edge.agent(upstream.port, *OWN_KEY) as own:
                await asyncio.to_thread(await_public, edge, ours.hostname)
                await asyncio.to_thread(await_public, edge, own.hostname)
                loads = [Load(edge.https, agent.hostname, pebble.root()) for agent in (ours, own)]
                await asyncio.gather(*(load.until_renewed(3, 55) for load in loads))
                for load in loads:
                    assert not load.failures, f"{load.failures}\n{edge.text[-3000:]}\n{own.text[-3000:]}"
                    assert len(load.serials) > 3 and load.kept > 100
