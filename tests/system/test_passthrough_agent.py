"""Visitors' TLS ends in the agent: what they can do over it, and the certificate that it is done with."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.kit import aiohttp_visitor
from tests.kit.browser import CHROMIUM, browsing
from tests.kit.certs import Root, names_of, shown
from tests.kit.loads import LoadServer
from tests.kit.programs import Agent, Edge, Program, eventually, listens, quiet_port, run
from tests.kit.steady import steady
from tests.kit.stopwatch import Stopwatch

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]

APP = "app"
LIFE_SECONDS = 6  # of a certificate that is renewed under load
RENEWALS = 2


@dataclass(frozen=True)
class Scene:
    edge: Edge
    agent: Agent
    server: LoadServer

    @property
    def files(self) -> Path:
        """What the agent keeps of its tunnel."""
        return self.edge.home / "tunnels" / self.agent.name

    def shake(self) -> ssl.SSLSocket:
        """A visitor's connection of its own."""
        plain = socket.create_connection(("127.0.0.1", self.edge.https), timeout=20)
        return self.edge.trust().wrap_socket(plain, server_hostname=self.agent.hostname)

    def certificate(self) -> x509.Certificate:
        with self.shake() as tls:
            return shown(tls)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        LoadServer(APP) as server,
        Edge(tmp_path_factory.mktemp("edge") / "home") as edge,
        edge.agent(server.port, "--name", "secure", "--tls-mode", "passthrough") as agent,
    ):
        yield Scene(edge, agent, server)


def test_visitors_are_shown_a_certificate_whose_key_only_the_agent_has(scene: Scene) -> None:
    certificate = scene.certificate()
    key = load_pem_private_key((scene.files / "tls-key.pem").read_bytes(), password=None)
    assert certificate.public_key() == key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [scene.agent.hostname]
    assert sorted(path.name for path in scene.files.iterdir()) == [
        "state.json", "tls-chain.pem", "tls-key.pem",
    ]  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in (scene.files, *scene.files.iterdir()))


NGINX = """daemon off; pid {home}/pid; error_log stderr warn; master_process off;
events {{}}
http {{ access_log off; server {{
  listen 127.0.0.1:{ports[0]} ssl; listen 127.0.0.1:{ports[1]} ssl http2; listen 127.0.0.1:{ports[2]} http2;
  ssl_certificate {chain}; ssl_certificate_key {key};
  location / {{ return 200 "$https $server_protocol $http_x_forwarded_proto $http_x_forwarded_for $uri"; }}
}} }}
"""


@pytest.mark.needs("nginx")
def test_upstreams_that_speak_tls_or_http2_are_served_behind_a_passthrough_name(
    scene: Scene, tmp_path: Path
) -> None:
    """The agent ends the visitor's TLS, and speaks to the application as that wants it."""
    root, ports = Root(), [quiet_port() for _ in range(3)]
    chain, key = root.put(tmp_path, "app", root.pair("localhost"))
    (tmp_path / "root.pem").write_text(root.pem)
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(home=tmp_path, ports=ports, chain=chain, key=key))
    upstreams = {
        f"https://localhost:{ports[0]}": "on HTTP/1.1",
        f"https://localhost:{ports[1]}": "on HTTP/2.0",
        f"h2c://localhost:{ports[2]}": " HTTP/2.0",
    }
    with Program(["nginx", "-p", str(tmp_path), "-c", str(config)]):
        eventually(lambda: all(map(listens, ports)), 20)
        for number, (upstream, says) in enumerate(upstreams.items()):
            trust = ["--upstream-ca-file", str(tmp_path / "root.pem")] if "https" in upstream else []
            flags = ["--name", f"behind-{number}", "--tls-mode", "passthrough", *trust]
            with scene.edge.agent(upstream, *flags) as agent:
                here = Scene(scene.edge, agent, scene.server)
                assert names_of(here.certificate()) == [agent.hostname]
                with here.shake() as tls:
                    tls.sendall(f"GET /a HTTP/1.1\r\nHost: {agent.hostname}\r\n\r\n".encode())
                    said = b""
                    while not said.endswith(b"/a"):
                        said += tls.recv(65536)
                assert said.endswith(f"\r\n\r\n{says} https 127.0.0.1 /a".encode())
                agent.line(r"GET +/a +200 ")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_gets_its_answers_over_both_versions_of_http(scene: Scene, version: str) -> None:
    hostname, port = scene.agent.hostname, scene.edge.https
    done = subprocess.run(
        [
            "curl", "-sS", f"--http{version}", "--cacert", str(scene.edge.ca), "--noproxy", "*",
            "--resolve", f"{hostname}:{port}:127.0.0.1", "-w", "%{http_version} %{ssl_verify_result}\n",
            f"https://{hostname}:{port}/echo/a", "-d", "a body", f"https://{hostname}:{port}/echo/b",
        ],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"a body{version} 0\na body{version} 0\n"


def test_each_request_has_a_line_in_the_agent_and_the_edge_saw_bytes_only(scene: Scene) -> None:
    with scene.shake() as tls:
        tls.sendall(f"GET /echo/only-here HTTP/1.1\r\nHost: {scene.agent.hostname}\r\n\r\n".encode())
        assert b"/echo/only-here" in tls.recv(65536)
    scene.agent.line(r"GET +/echo/only-here +200 .* from 127\.0\.0\.1$")
    scene.edge.line(rf"access tunnel={scene.agent.name} .*method=TLS target=- ")
    assert "only-here" not in scene.edge.text


def test_a_visitor_that_talks_on_behind_the_last_reply_is_cut_off(scene: Scene) -> None:
    with scene.shake() as tls:
        request = f"GET /echo/last HTTP/1.1\r\nHost: {scene.agent.hostname}\r\nConnection: close\r\n\r\n"
        tls.sendall(request.encode())
        said = b""
        while not said.endswith(b"/echo/last"):
            said += tls.recv(65536)
        until = time.monotonic() + 60
        with pytest.raises((ConnectionError, ssl.SSLError)):
            while time.monotonic() < until:
                tls.sendall(bytes(16_000))


async def test_websocket_messages_and_events_go_both_ways_as_they_are_made(scene: Scene) -> None:
    url = f"https://{scene.agent.hostname}:{scene.edge.https}"
    async with aiohttp_visitor.session(scene.edge) as session:
        async with session.ws_connect(f"{url}/ws") as conversation:
            for size in (0, 1, 125, 65536, 1 << 20):
                await conversation.send_bytes(bytes(size))
                assert len(await conversation.receive_bytes(timeout=20)) == size
        async with session.get(f"{url}/events/50") as events, asyncio.timeout(20):
            for number in range(3):
                assert (await events.content.readline()).startswith(b"data: %d " % number)
                await events.content.readline()


async def test_a_large_download_is_whole_and_an_upload_beside_it_too(scene: Scene) -> None:
    url, size = f"https://{scene.agent.hostname}:{scene.edge.https}", 64 << 20
    data = bytes(range(256)) * 4000

    async def download(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{url}/bytes/{size}") as reply:
            return sum([len(piece) async for piece in reply.content.iter_any()])

    async def upload(session: aiohttp.ClientSession) -> bytes:
        async with session.post(f"{url}/echo", data=data) as reply:
            return hashlib.sha256(await reply.read()).digest()

    async with aiohttp_visitor.session(scene.edge) as session, asyncio.timeout(60):
        down, up = await asyncio.gather(download(session), upload(session))
    assert down == size and up == hashlib.sha256(data).digest()


def test_a_request_for_another_name_on_the_same_connection_is_misdirected(scene: Scene) -> None:
    with scene.shake() as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert tls.recv(65536).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_versions_of_tls_are_spoken(scene: Scene, version: ssl.TLSVersion) -> None:
    context = scene.edge.trust()
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", scene.edge.https), timeout=20)
    with context.wrap_socket(plain, server_hostname=scene.agent.hostname) as tls:
        tls.sendall(f"GET /echo/a HTTP/1.1\r\nHost: {scene.agent.hostname}\r\n\r\n".encode())
        assert tls.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert tls.version() == version.name.replace("_", ".") and not (
            tls.session and tls.session.has_ticket
        )


@pytest.mark.needs(CHROMIUM)
def test_a_browser_opens_the_page_over_http2_and_a_websocket_beside_it(scene: Scene, tmp_path: Path) -> None:
    with browsing(scene.edge, tmp_path / "profile", scene.agent.hostname) as browser:
        tab = browser.pages[0]
        reply = tab.goto(f"{scene.agent.url}/page")
        assert reply is not None and reply.status == 200 and tab.title() == APP
        security = reply.security_details()
        assert security is not None and security["subjectName"] == scene.agent.hostname
        assert tab.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        said = tab.evaluate(
            """() => new Promise((done, fail) => {
                const socket = new WebSocket(`wss://${location.host}/ws`);
                socket.binaryType = "arraybuffer";
                socket.onopen = () => socket.send(new Uint8Array([1, 2, 3]));
                socket.onmessage = message => done([...new Uint8Array(message.data)]);
                socket.onerror = fail;
            })"""
        )
        assert said == [1, 2, 3]


def test_a_certificate_is_renewed_under_load_and_no_request_fails(tmp_path: Path) -> None:
    settings = {"local_certificate_days": LIFE_SECONDS / 86400, "csr_per_tunnel_per_hour": 1000}
    with (
        LoadServer(APP) as server,
        Edge(tmp_path / "home", settings=settings) as edge,
        edge.agent(server.port, "--name", "brief", "--tls-mode", "passthrough") as agent,
        steady(edge, agent.hostname, APP) as kept,
    ):
        here, serials = Scene(edge, agent, server), set()
        stop = threading.Event()
        failures: list[str] = []

        def come_anew() -> None:
            """Visitors with a connection of their own, one after the other."""
            while not stop.is_set():
                try:
                    with here.shake() as tls:
                        connection = http.client.HTTPConnection(agent.hostname)
                        connection.sock = tls
                        connection.request("GET", "/echo/anew")
                        reply = connection.getresponse()
                        assert (reply.status, reply.read()) == (200, b"/echo/anew")
                        serials.add(shown(tls).serial_number)
                except (OSError, AssertionError, http.client.HTTPException) as error:
                    failures.append(repr(error))

        coming = threading.Thread(target=come_anew)
        coming.start()
        try:
            agent.line("certificate renewed, good until")
            until = time.monotonic() + 40
            while len(serials) <= RENEWALS and time.monotonic() < until:
                time.sleep(0.05)
        finally:
            stop.set()
            coming.join(30)
        assert not failures and len(serials) >= RENEWALS + 1
        assert len(kept.answers) > 50
    assert "Traceback" not in agent.text


def test_visitors_of_an_edge_that_is_restarted_are_told_at_once_and_come_back(tmp_path: Path) -> None:
    """Its agent dials the new one with the certificate that it has."""
    https, http_port = quiet_port(), quiet_port()
    start = functools.partial(
        Edge, tmp_path / "home", https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http_port}",
        settings={"drain_seconds": 1},
    )  # fmt: skip

    def asked(tls: ssl.SSLSocket, path: str) -> bytes:
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {agent.hostname}\r\n\r\n".encode())
        return tls.recv(65536)

    def over(tls: ssl.SSLSocket) -> bool:
        """An end or a reset is heard, and no answer."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := tls.recv(65536):
                assert not piece.startswith(b"HTTP/"), piece
        return True

    with LoadServer(APP) as server, contextlib.ExitStack() as stack:
        edge = stack.enter_context(start())
        agent = stack.enter_context(edge.agent(server.port, "--name", "brief", "--tls-mode", "passthrough"))
        here = Scene(edge, agent, server)
        before = here.certificate()
        for end in (Edge.stop, Edge.kill):
            idle, streaming = stack.enter_context(here.shake()), stack.enter_context(here.shake())
            assert asked(idle, "/echo/a").startswith(b"HTTP/1.1 200 ")
            assert asked(streaming, "/events/50").startswith(b"HTTP/1.1 200 ")
            heard = agent.mark()
            end(edge)
            watch = Stopwatch(agent)
            assert over(idle) and over(streaming)
            assert watch.seconds() < 2
            edge = stack.enter_context(start())
            agent.line(r"connected", 20, after=heard)
            here = Scene(edge, agent, server)
            assert here.certificate() == before
            with here.shake() as tls:
                assert asked(tls, "/echo/b").startswith(b"HTTP/1.1 200 ")
        assert "certificate" not in "".join(agent.lines[heard:]) and "Traceback" not in agent.text


@pytest.mark.needs("openssl")
def test_whoever_looks_for_the_list_of_void_certificates_finds_it(scene: Scene, tmp_path: Path) -> None:
    """OpenSSL loads it from where the certificate says; the agent of a deleted tunnel is told by it."""
    with scene.edge.agent(scene.server.port, "--name", "voided", "--tls-mode", "passthrough") as agent:
        certificate = Scene(scene.edge, agent, scene.server).certificate()
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))

    def verified() -> str:
        ca = str(scene.edge.ca)
        command = ["openssl", "verify", "-CAfile", ca, "-crl_check", "-crl_download", str(leaf)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    assert verified() == f"{leaf}: OK\n"
    for verb in ("delete", "force-delete"):
        done = run("tunnels", verb, "voided", "--yes", home=scene.edge.home)
        assert done.returncode == 0, done.stderr
    assert "certificate revoked" in verified()


def test_what_does_not_fit_on_disk_is_signed_anew_at_the_start(tmp_path: Path) -> None:
    """Another certificate's key, another name's certificate: each would be a broken site."""
    root, named = Root(), ("--name", "secure", "--tls-mode", "passthrough")
    with LoadServer(APP) as server, Edge(tmp_path / "home") as edge:
        with edge.agent(server.port, *named) as agent:
            here = Scene(edge, agent, server)
            good = here.certificate()
            agent.stop()
        key_file, chain_file = here.files / "tls-key.pem", here.files / "tls-chain.pem"
        with edge.agent(server.port, *named) as agent:
            assert Scene(edge, agent, server).certificate() == good, "a good one is kept"
            agent.stop()
        key, chain = key_file.read_text(), chain_file.read_text()
        _, other_key = root.pair("secure.localhost")
        request = x509.load_pem_x509_certificate(chain.encode())
        other_name, _ = root.pair("other.localhost")
        for broken_key, broken_chain in ((other_key, chain), (key, other_name)):
            key_file.write_text(broken_key)
            chain_file.write_text(broken_chain)
            with edge.agent(server.port, *named) as agent:
                fresh = Scene(edge, agent, server).certificate()
                assert fresh.serial_number != request.serial_number
                agent.stop()
