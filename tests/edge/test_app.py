"""A whole edge on loopback, with real TLS, a real agent's session, and a small server as control plane."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from tests.kit.agents import Agent, answer
from tests.kit.certs import authority, client_hello, self_signed, trusting
from tests.kit.house import COUNTS, TERMS
from tests.kit.sandboxes import PUBLIC, SandboxRecords
from wellhead.edge.accesslog import AccessLog
from wellhead.edge.app import Edge, EdgeTerms
from wellhead.edge.challenges import Challenges
from wellhead.edge.gate import GateTerms
from wellhead.edge.intake.bridge import BridgeTerms
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.edge.passthrough import RawTerms
from wellhead.edge.port_door import PortTerms
from wellhead.errors import SecretRejected
from wellhead.model.access import Secret
from wellhead.model.links import KEY_BYTES, LinkSigner
from wellhead.model.records import (
    Admission,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.model.sandboxes import SandboxStatus, new_sandbox_id
from wellhead.net.certificate_files import CertificateFiles
from wellhead.net.certificates import Certificates
from wellhead.net.portal import PortalTerms
from wellhead.net.session import Liveness
from wellhead.net.sockets import listen
from wellhead.net.tls import ALPN_ACME, ALPN_H2, ALPN_HTTP, ALPN_MUX
from wellhead.net.upstream import UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.wire.h2 import H2Terms

VIEW = TunnelView(TunnelId("t_1"), "my-agent", OrganizationId("org"), TunnelStatus.ACTIVE, TlsMode.EDGE)
PASSED = replace(VIEW, id=TunnelId("t_2"), name="passed", tls_mode=TlsMode.PASSTHROUGH)
ALERT = 21
UNKNOWN_NAMES = 5
PORT_NAMES = 3  # of one sandbox in a minute
INTERNAL_ERROR, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 80, 112, 120


class Records:
    """A directory with a tunnel of each kind."""

    current = True

    def tunnel(self, name: str) -> TunnelView | None:
        return next((view for view in (VIEW, PASSED) if name == view.name), None)

    def named(self, name: str) -> TunnelView | None:
        return self.tunnel(name)

    def is_current(self) -> bool:
        return self.current

    def on_removed(self, call: Callable[[TunnelId], None]) -> None: ...

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """No key is ever revoked."""

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        if secret.reveal() != "good":
            raise SecretRejected("not this secret")
        return Admission(VIEW)

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None: ...
    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None: ...
    async def is_admin(self, key: Secret) -> bool:
        return False


class Control(asyncio.Protocol):
    """The control plane: says so to every request, or what else it is told to say in 7 letters."""

    def __init__(self, says: bytes = b"control") -> None:
        self._says = says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n")
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + self._says)


class House:
    """The edge, its two ports, and how to reach them."""

    def __init__(
        self,
        edge: Edge,
        https: int,
        http: int,
        trust: ssl.SSLContext,
        log: io.BytesIO,
        challenges: Challenges,
        wanted: list[str],
        records: SandboxRecords,
    ) -> None:
        self.records = records
        self.edge, self.https, self.http, self.trust, self.log = edge, https, http, trust, log
        self.challenges, self.wanted = challenges, wanted

    async def agent(self) -> Agent:
        """A welcomed one."""
        agent = Agent()
        await agent.connect(self.https, self.trust, "my-agent", "good")
        return agent

    async def ask(self, sni: str | None, host: str, target: str = "/") -> bytes:
        """A request on a connection of its own: TLS for ``sni``, or plain; the whole answer."""
        async with asyncio.timeout(5):
            if sni is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
            else:
                self.trust.set_alpn_protocols([ALPN_HTTP])
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.https, ssl=self.trust, server_hostname=sni
                )
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            reply = await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            return reply

    def handshake(self, sni: str | None, alpn: Sequence[str]) -> str | None:
        """The protocol that was chosen; blocking."""
        context = ssl.create_default_context(cadata="")
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        with socket.create_connection(("127.0.0.1", self.https), 5) as sock:
            with context.wrap_socket(sock, server_hostname=sni) as tls:
                return tls.selected_alpn_protocol()

    async def alert(self, hello: bytes) -> int:
        """The description of the alert that a ClientHello is answered with."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.https)
            writer.write(hello)
            record = await reader.read()
            writer.close()
        assert record[0] == ALERT, record
        return record[6]


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """A parameter of False: the local CA makes no tunnel's certificate."""
    control, patient = [
        await asyncio.get_running_loop().create_server(functools.partial(Control, says), "127.0.0.1", 0)
        for says in (b"control", b"patient")
    ]
    ca, log = authority(tmp_path), io.BytesIO()
    terms = EdgeTerms(
        ports=PortTerms(denied=frozenset(), exchanges=1000, resume_seconds=20, resume_waiting=10),
        domain="localhost", zone="localhost", visitor=TERMS, counts=COUNTS, portal=PortalTerms(),
        passthrough=RawTerms(),
        gate=GateTerms(
            hello_seconds=5, drain_seconds=30, liveness=Liveness(), loopback_exempt=True,
            public_urls=lambda view: [],
        ),
        intake=IntakeTerms(h2=H2Terms(), bridge=BridgeTerms(), liveness=Liveness()),
        drain_seconds=5, unknown_names_per_minute=UNKNOWN_NAMES, port_names_per_minute=PORT_NAMES,
    )  # fmt: skip
    pool, patient_pool = [
        UpstreamPool(parse_upstream(str(server.sockets[0].getsockname()[1])), host_header="preserve")
        for server in (control, patient)
    ]
    certificates = Certificates(
        CertificateFiles([], tmp_path / "certificates"), ca, mints=getattr(request, "param", True)
    )
    edge = Edge(
        terms,
        Records(),
        records := SandboxRecords(),
        LinkSigner(bytes(KEY_BYTES)),
        certificates,
        challenges := Challenges(asyncio.get_running_loop().time),
        (wanted := list[str]()).append,
        lambda message: None,
        pool,
        patient_pool,
        lambda metrics: AccessLog(metrics, log, asyncio.get_running_loop()),
    )
    https, http = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    ports = https[0].getsockname()[1], http[0].getsockname()[1]
    await edge.start(https, http)
    try:
        yield House(edge, *ports, trusting(ca), log, challenges, wanted, records)
    finally:
        await edge.close()
        control.close()
        patient.close()


@pytest.mark.parametrize(
    ("sni", "alpn", "chosen"),
    [
        ("my-agent.localhost", [ALPN_HTTP], ALPN_HTTP),
        ("my-agent.localhost", [ALPN_HTTP, ALPN_H2], ALPN_H2),
        ("my-agent.localhost", [ALPN_H2], ALPN_H2),
        ("my-agent.localhost", ["spdy/1", ALPN_HTTP], ALPN_HTTP),
        ("my-agent.localhost", [], None),
        ("my-agent.localhost", [ALPN_MUX, ALPN_HTTP], ALPN_HTTP),
        ("localhost", [ALPN_MUX], ALPN_MUX),
        ("localhost", [ALPN_H2, ALPN_HTTP, ALPN_MUX], ALPN_MUX),
        ("localhost", [ALPN_H2, ALPN_HTTP], ALPN_H2),
        ("localhost", [ALPN_HTTP], ALPN_HTTP),
        ("api.localhost", [ALPN_HTTP], ALPN_HTTP),
        (None, [ALPN_MUX], ALPN_MUX),
        (None, [ALPN_HTTP], ALPN_HTTP),
        (None, [ALPN_H2], ALPN_H2),
    ],
)
async def test_name_and_alpn_decide_who_is_at_the_door(
    house: House, sni: str | None, alpn: list[str], chosen: str | None
) -> None:
    assert await asyncio.to_thread(house.handshake, sni, alpn) == chosen


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        ("/api/v1/tunnels", b"control"),
        ("/api/v1/hosts", b"control"),
        ("/api/v1/sandboxes-of-mine", b"control"),
        ("/api/v1/sandboxes", b"patient"),
        ("/api/v1/capsules?a=b", b"patient"),
        ("/legacy/api/v1/capsules/", b"patient"),
        ("/api/v1/sandboxes/cl-a/pause", b"patient"),
        ("/api/v1/snapshots", b"patient"),
        ("/api/v1/tunnels/a/sign-csr", b"patient"),
        ("/api/v1/tunnels/a/sign-csr/", b"patient"),
    ],
)
async def test_what_waits_for_a_host_or_an_issuer_is_given_time(
    house: House, path: str, answers: bytes
) -> None:
    assert (await house.ask("localhost", "localhost", path)).endswith(answers)


@pytest.mark.parametrize(
    ("sni", "alpn", "alert"),
    [
        ("example.com", [ALPN_HTTP], UNRECOGNIZED_NAME),
        ("a.b.localhost", [], UNRECOGNIZED_NAME),
        ("my-agent.localhost", ["h2c"], NO_APPLICATION_PROTOCOL),
        ("my-agent.localhost", [ALPN_MUX], NO_APPLICATION_PROTOCOL),
        ("api.localhost", [ALPN_MUX], NO_APPLICATION_PROTOCOL),
        (None, ["imap"], NO_APPLICATION_PROTOCOL),
    ],
)
async def test_what_is_not_served_is_an_alert(house: House, sni: str, alpn: list[str], alert: int) -> None:
    assert await house.alert(client_hello(sni, alpn)) == alert


async def test_made_up_names_get_their_page_until_there_are_too_many_and_others_always(house: House) -> None:
    for number in range(UNKNOWN_NAMES):
        name = f"made-up-{number}.localhost"
        assert (await house.ask(name, name)).startswith(b"HTTP/1.1 404 ")
    assert await house.alert(client_hello("made-up.localhost", [ALPN_HTTP])) == UNRECOGNIZED_NAME
    assert house.edge.metrics.refused["unknown-names"] == 1
    for name, status in (("my-agent.localhost", b"503"), ("localhost", b"200")):
        assert (await house.ask(name, name)).split()[1] == status


async def test_a_port_of_a_sandbox_has_a_certificate_of_its_own_that_is_kept(house: House) -> None:
    host, _ = house.records.new_host()
    sandbox = house.records.new_sandbox(host, access=PUBLIC)
    for number in range(UNKNOWN_NAMES + PORT_NAMES):
        name = f"{3000 + number}-{sandbox}.localhost"
        assert (await house.ask(name, name)).startswith(b"HTTP/1.1 503 ")  # the host has no session
    # Ports beyond so many are as made-up names.
    assert await house.alert(client_hello(f"9999-{sandbox}.localhost")) == UNRECOGNIZED_NAME
    other = house.records.new_sandbox(host, access=PUBLIC)
    for name in (f"3000-{sandbox}.localhost", f"3000-{other}.localhost", "my-agent.localhost"):
        assert (await house.ask(name, name)).startswith(b"HTTP/1.1 503 ")


async def test_ports_of_what_is_no_sandbox_are_made_up_names(house: House) -> None:
    host, _ = house.records.new_host()
    over = house.records.new_sandbox(host, SandboxStatus.STOPPED, access=PUBLIC)
    names = (f"0-{over}", "3000-cl-x", f"3000-{new_sandbox_id()}", f"3000-{over}")
    for name, status in zip(names, (400, 400, 404, 409), strict=True):
        hostname = f"{name}.localhost"
        assert (await house.ask(hostname, hostname)).startswith(b"HTTP/1.1 %d " % status)
    authority = house.edge._names._certificates._authority
    assert not [name for name, _ in authority._cache if name and "-cl-" in name]


@pytest.mark.parametrize("name", ["localhost", "api.localhost"])
async def test_the_control_plane_answers_on_its_names(house: House, name: str) -> None:
    assert (await house.ask(name, name)).endswith(b"control")
    assert (await house.ask(None, name)).endswith(b"control")


async def test_a_tunnels_connection_does_not_lead_to_the_control_plane(house: House) -> None:
    reply = await house.ask("my-agent.localhost", "api.localhost")
    assert reply.startswith(b"HTTP/1.1 421 ") and b"control" not in reply.partition(b"\r\n\r\n")[2][:8]


async def test_metrics_are_the_edges_own(house: House) -> None:
    assert b"wellhead_sessions 0.0" in await house.ask("localhost", "localhost", "/metrics?x")
    assert (await house.ask("localhost", "localhost", "/metrics/x")).endswith(b"control")


async def test_metrics_want_a_key_of_everybody_where_no_address_is_spared(house: House) -> None:
    house.edge._terms = replace(house.edge._terms, counts=replace(COUNTS, loopback_exempt=False))
    reply = await house.ask("localhost", "localhost", "/metrics")
    assert reply.startswith(b"HTTP/1.1 401 ") and b"wellhead_sessions" not in reply


async def test_without_an_agent_there_is_a_page_and_for_no_tunnel_another(house: House) -> None:
    assert (await house.ask("my-agent.localhost", "my-agent.localhost")).startswith(b"HTTP/1.1 503 ")
    assert (await house.ask("nobody.localhost", "nobody.localhost")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("sni", ["my-agent.localhost", None])
async def test_a_request_passes_through_an_agent(house: House, sni: str | None) -> None:
    agent = await house.agent()
    reply = await house.ask(sni, "my-agent.localhost", "/some/where?x")
    assert reply.startswith(b"HTTP/1.1 200 ") and reply.endswith(b"/some/where?x")
    agent.session.close()


@pytest.mark.parametrize(
    ("sni", "body"), [("my-agent.localhost", b"/some/where"), ("api.localhost", b"control")]
)
async def test_a_request_in_http2_passes_too(house: House, sni: str, body: bytes) -> None:
    agent = await house.agent()
    house.trust.set_alpn_protocols([ALPN_H2])
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", house.https, ssl=house.trust, server_hostname=sni
        )
        client = H2Connection(H2Configuration(header_encoding=None))
        client.initiate_connection()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", sni), (":path", "/some/where")]
        client.send_headers(1, head, end_stream=True)
        got, ended = b"", False
        while not ended:
            writer.write(client.data_to_send())
            for event in client.receive_data(await reader.read(65536)):
                got += (event.data or b"") if isinstance(event, DataReceived) else b""
                ended = ended or isinstance(event, StreamEnded)
        writer.close()
    assert got == body
    agent.session.close()


async def test_a_closed_edge_has_written_every_line_and_left_nothing(house: House) -> None:
    agent = await house.agent()
    before = asyncio.all_tasks()
    asking = asyncio.create_task(house.ask(None, "my-agent.localhost", "/wait"))
    async with asyncio.timeout(5):
        await agent.waiting.wait()
    await house.edge.close()
    with contextlib.suppress(ConnectionError):
        assert await asking == b""
    assert b"target=/wait status=0" in house.log.getvalue() and b"reason=closed" in house.log.getvalue()
    assert len(house.edge.ingress) == 0
    async with asyncio.timeout(5):
        await agent.session.closed
    assert asyncio.all_tasks() <= before


async def test_draining_finishes_what_runs_and_accepts_nothing_new(house: House) -> None:
    agent = await house.agent()
    asking = asyncio.create_task(house.ask("my-agent.localhost", "my-agent.localhost", "/wait"))
    async with asyncio.timeout(5):
        await agent.waiting.wait()
        draining = asyncio.create_task(house.edge.drain())
        await agent.draining.wait()
    assert not draining.done()
    with pytest.raises(ConnectionRefusedError):
        await house.ask(None, "my-agent.localhost")
    assert agent.held is not None
    answer(agent.held, b"at last")
    assert (await asking).endswith(b"at last")
    async with asyncio.timeout(5):
        await draining


# Certificate authorities, and names without a certificate


async def test_an_authority_is_answered_at_every_name_of_ours_and_no_tenant_is(house: House) -> None:
    agent = await house.agent()
    for name in ("my-agent.localhost", "nobody.localhost", "api.localhost", "localhost"):
        house.challenges.put_http(name, "token-1", "answer of " + name)
        reply = await house.ask(None, name, "/.well-known/acme-challenge/token-1")
        assert reply.startswith(b"HTTP/1.1 200 OK") and reply.endswith(b"\r\n\r\nanswer of " + name.encode())
        reply = await house.ask(name, name, "/.well-known/acme-challenge/token-1")
        assert reply.endswith(b"\r\n\r\nanswer of " + name.encode())
        for other in ("/.well-known/acme-challenge/token-2", "/.well-known/acme%2Dchallenge/token-1"):
            reply = await house.ask(None, name, other)
            assert reply.startswith(b"HTTP/1.1 404 ") and b"no-challenge" in reply
    assert agent.targets == []


async def test_an_answer_is_for_its_own_name(house: House) -> None:
    house.challenges.put_http("my-agent.localhost", "token-1", "answer")
    reply = await house.ask(None, "nobody.localhost", "/.well-known/acme-challenge/token-1")
    assert reply.startswith(b"HTTP/1.1 404 ")
    reply = await house.ask(None, "example.com", "/.well-known/acme-challenge/token-1")
    assert reply.startswith(b"HTTP/1.1 404 ") and b"unknown-name" in reply


@pytest.mark.parametrize("name", ["my-agent.localhost", "passed.localhost", "localhost"])
async def test_the_challenges_certificate_is_for_those_who_offer_its_protocol_alone(
    house: House, name: str
) -> None:
    alone = client_hello(name, [ALPN_ACME])
    assert await house.alert(alone) == NO_APPLICATION_PROTOCOL
    key, certificate = self_signed(name)
    house.challenges.put_alpn(name, certificate.decode(), key.decode())
    context = ssl.create_default_context(cadata=certificate.decode())
    context.set_alpn_protocols([ALPN_ACME])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.https, ssl=context, server_hostname=name
    )
    found = writer.get_extra_info("ssl_object")
    assert found.selected_alpn_protocol() == ALPN_ACME
    async with asyncio.timeout(5):
        assert await reader.read() == b""  # nothing is said on it
    writer.close()
    assert await house.alert(client_hello(name, [ALPN_ACME, ALPN_HTTP])) == NO_APPLICATION_PROTOCOL
    assert await house.alert(client_hello("nobody.localhost", [ALPN_ACME])) == NO_APPLICATION_PROTOCOL
    assert await house.alert(client_hello(None, [ALPN_ACME])) == NO_APPLICATION_PROTOCOL
    house.challenges.remove(name, "")
    assert await house.alert(alone) == NO_APPLICATION_PROTOCOL


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_a_name_without_a_certificate_is_an_alert_and_wanted_once(house: House) -> None:
    for _ in range(3):
        assert await house.alert(client_hello("my-agent.localhost")) == INTERNAL_ERROR
    assert house.wanted == ["my-agent.localhost"]
    assert await house.alert(client_hello("api.localhost")) == INTERNAL_ERROR
    assert house.wanted == ["my-agent.localhost", "api.localhost"]


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_a_name_that_no_tunnel_has_is_never_wanted(house: House) -> None:
    for name in ("nobody.localhost", "example.com", "a.b.localhost"):
        assert await house.alert(client_hello(name)) == UNRECOGNIZED_NAME
    assert house.wanted == []


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_for_ports_of_sandboxes_no_certificate_is_ordered_and_that_is_said_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox = house.records.new_sandbox(house.records.new_host()[0], access=PUBLIC)
    for port in range(3000, 3000 + UNKNOWN_NAMES + 1):
        assert await house.alert(client_hello(f"{port}-{sandbox}.localhost")) == INTERNAL_ERROR
    assert house.wanted == []
    told = [record.message for record in caplog.records]
    assert len([line for line in told if line.startswith("no certificate for ports of sandboxes")]) == 1


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_while_the_records_are_away_a_name_is_not_said_to_be_nobodys(house: House) -> None:
    """A tunnel may have it that was made a moment ago: clients do not remember an internal error."""
    records = house.edge._directory
    assert isinstance(records, Records)
    records.current = False
    assert await house.alert(client_hello("nobody.localhost")) == INTERNAL_ERROR
    assert await house.alert(client_hello("example.com")) == UNRECOGNIZED_NAME, "that is none of ours"
    assert (await house.ask(None, "nobody.localhost")).startswith(b"HTTP/1.1 503 ")


async def test_while_the_records_are_away_an_unknown_name_has_its_page_over_tls_too(house: House) -> None:
    records = house.edge._directory
    assert isinstance(records, Records)
    records.current = False
    for number in range(UNKNOWN_NAMES):
        name = f"made-up-{number}.localhost"
        assert (await house.ask(name, name)).startswith(b"HTTP/1.1 503 ")
    assert await house.alert(client_hello("made-up.localhost", [ALPN_HTTP])) == INTERNAL_ERROR


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_an_agent_that_comes_has_its_tunnels_certificate_wanted(house: House) -> None:
    await house.agent()
    assert house.wanted == ["my-agent.localhost"]


async def test_where_the_local_ca_makes_certificates_nothing_is_wanted(house: House) -> None:
    await house.agent()
    await house.ask("my-agent.localhost", "my-agent.localhost")
    assert house.wanted == []
