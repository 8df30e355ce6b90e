"""Certificates of the operator's and issued ones at a real edge, while they change under it."""

from __future__ import annotations

import contextlib
import http.server
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from cryptography import x509

from tests.kit.certs import DAY, Root, client_hello, names_of, shown
from tests.kit.programs import Edge, eventually, run
from tests.system.test_tls import judge, needs_openssl, needs_sslscan, talk
from wellhead import issued

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

OWN, ISSUED, BARE, NOBODYS = "own.x.test", "issued.x.test", "bare.x.test", "nobody.x.test"
INTERNAL_ERROR, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 80, 112, 120


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says which path it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests of these tests are nobody's news."""


@dataclass
class House:
    """An edge with agents for three names, whose certificates come from files or not at all."""

    edge: Edge
    root: Root
    directory: Path  # of the operator's files

    def put_own(self) -> int:
        """A new certificate of the operator's; its serial number."""
        pair = self.root.pair(OWN, "*.y.test")
        self.root.put(self.directory, "own", pair)
        return x509.load_pem_x509_certificate(pair[0].encode()).serial_number

    def put_issued(self) -> int:
        chain, key = self.root.pair(ISSUED)
        issued.put(self.edge.data / issued.DIRECTORY, ISSUED, chain_pem=chain, key_pem=key, meta={})
        return x509.load_pem_x509_certificate(chain.encode()).serial_number

    @contextlib.contextmanager
    def visit(self, name: str) -> Iterator[ssl.SSLSocket]:
        """A connection of a visitor who trusts the test's authority alone."""
        with socket.create_connection(("127.0.0.1", self.edge.https), 10) as sock:
            with self.root.trust(["http/1.1"]).wrap_socket(sock, server_hostname=name) as tls:
                yield tls

    def serial(self, name: str) -> int:
        with self.visit(name) as tls:
            found = shown(tls)
        assert name in names_of(found)
        return found.serial_number

    def alert(self, hello: bytes) -> int:
        """The description of the alert that a ClientHello is answered with."""
        with socket.create_connection(("127.0.0.1", self.edge.https), 10) as sock:
            sock.sendall(hello)
            record = sock.recv(100)
        assert record[0] == 21, record
        return record[6]


def ask(tls: socket.socket, name: str, path: str) -> bytes:
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    reply = b""
    while not reply.endswith(path.encode()):
        piece = tls.recv(65536)
        assert piece, reply
        reply += piece
    return reply


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home, root = tmp_path_factory.mktemp("certificates"), Root()
    chain, key = root.put(home, "own", root.pair(OWN, "*.y.test"))
    settings = {
        "domain": "x.test", "zone": "localhost", "issuer": "files", "tls_files": f"{chain}:{key}",
        "tls_reload_seconds": "0.2",
    }  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    with contextlib.ExitStack() as stack, Edge(home, settings=settings) as edge:
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        for name in (OWN, ISSUED, BARE):
            stack.enter_context(edge.agent(port, "--name", name.partition(".")[0]))
        made = House(edge, root, home)
        made.put_issued()
        edge.line(rf"certificate loaded .*names={ISSUED}")
        yield made


def test_visitors_are_served_by_the_operators_certificate_and_by_an_issued_one(house: House) -> None:
    for name in (OWN, ISSUED):
        with house.visit(name) as tls:
            assert ask(tls, name, "/hello").startswith(b"HTTP/1.1 200 ")


def test_a_name_without_a_certificate_gets_an_alert_and_never_another_names(house: House) -> None:
    assert house.alert(client_hello(BARE)) == INTERNAL_ERROR
    assert house.alert(client_hello(NOBODYS)) == UNRECOGNIZED_NAME
    assert house.alert(client_hello(OWN, ["acme-tls/1"])) == NO_APPLICATION_PROTOCOL
    assert house.alert(client_hello(OWN, ["ftp"])) == NO_APPLICATION_PROTOCOL


def test_no_tenant_is_asked_what_a_certificate_authority_asks(house: House) -> None:
    for path in ("/.well-known/acme-challenge/token", "/%2ewell-known//acme-challenge/x"):
        for name in (OWN, BARE, NOBODYS):
            with socket.create_connection(("127.0.0.1", house.edge.http), 10) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_agents_and_the_api_stay_with_the_local_authority_where_no_file_is_for_their_name(
    house: House,
) -> None:
    done = run("tunnels", "list", "--json", home=house.edge.home)
    assert done.returncode == 0, done.stderr
    assert all(f'"{name}"' in done.stdout for name in ("own", "issued", "bare"))


def test_a_new_certificate_is_shown_to_new_visitors_and_open_connections_go_on(house: House) -> None:
    with house.visit(OWN) as old:
        first = shown(old).serial_number
        assert ask(old, OWN, "/before").startswith(b"HTTP/1.1 200 ")
        second = house.put_own()
        eventually(lambda: house.serial(OWN) == second, 10)
        assert ask(old, OWN, "/after").startswith(b"HTTP/1.1 200 ")
        assert shown(old).serial_number == first != second
    third = house.put_issued()
    eventually(lambda: house.serial(ISSUED) == third, 10)
    assert "session closed" not in house.edge.text, "no agent noticed"


def test_a_new_file_that_is_not_good_is_refused_by_name_and_the_old_certificate_stays(house: House) -> None:
    before = house.put_own()
    eventually(lambda: house.serial(OWN) == before, 10)
    for pair, says in (
        (("no pem", ""), "holds no certificate in PEM form"),
        ((house.root.pair(OWN)[0], house.root.pair(OWN)[1]), "is not the key of the first certificate"),
        (house.root.pair(OWN, begins=-2 * DAY, ends=-DAY), "ended on"),
    ):
        mark = house.edge.mark()
        house.root.put(house.directory, "own", pair)
        house.edge.line(rf"certificate refused .*own\.(pem|key) {says}.* kept=", after=mark)
        assert house.serial(OWN) == before
    after = house.put_own()
    eventually(lambda: house.serial(OWN) == after, 10)


def test_visitors_during_reloads_see_the_certificate_of_their_name_and_of_their_time(
    house: House, pytestconfig: pytest.Config
) -> None:
    """A hundred visitors in each reload, who verify; ten reloads, a hundred with ``--load-seconds``."""
    reloads = 100 if pytestconfig.getoption("load_seconds") else 10
    good = {OWN: {house.put_own()}, ISSUED: {house.put_issued()}}
    eventually(lambda: all({house.serial(name)} == good[name] for name in good), 10)
    with ThreadPoolExecutor(8) as visitors:
        for turn in range(reloads):
            name = (OWN, ISSUED)[turn % 2]
            shaking = [visitors.submit(house.serial, (OWN, ISSUED)[number % 2]) for number in range(50)]
            new = house.put_own() if name == OWN else house.put_issued()
            house.edge.signal(signal.SIGHUP)
            shaking += [visitors.submit(house.serial, (OWN, ISSUED)[number % 2]) for number in range(50)]
            seen = [each.result(60) for each in shaking]
            assert set(seen[::2]) <= good[OWN] | ({new} if name == OWN else set())
            assert set(seen[1::2]) <= good[ISSUED] | ({new} if name == ISSUED else set())
            good[name] = {new}
            eventually(lambda: {house.serial(name)} == good[name], 10)  # noqa: B023
    assert house.edge.process.poll() is None


def test_days_left_are_told_at_metrics(house: House) -> None:
    with urlopen(f"http://127.0.0.1:{house.edge.http}/metrics", timeout=10) as reply:
        told = reply.read().decode()
    found = dict(re.findall(r'wellhead_certificate_days_left\{name="([^"]+)"\} (\S+)', told))
    assert found.keys() >= {ISSUED} and len(found) == 2
    assert all(89 < float(days) < 90 for days in found.values())


def test_certificates_are_read_again_while_the_control_plane_stands_still(house: House) -> None:
    control = house.edge.control()
    control.suspend()
    try:
        new = house.put_issued()
        eventually(lambda: house.serial(ISSUED) == new, 10)
    finally:
        control.resume()


@needs_sslscan
@pytest.mark.parametrize("name", [OWN, ISSUED])
def test_a_scanner_finds_no_fault_with_certificates_of_files(house: House, name: str) -> None:
    judge(house.edge.https, name)


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_session_outlives_its_certificate(house: House, tmp_path: Path, version: str) -> None:
    """No tickets and no renegotiation, with certificates of files as with any."""
    (tmp_path / "root.pem").write_text(house.root.pem)
    told = talk(house.edge.https, ISSUED, tmp_path / "root.pem", "Q\n", version)
    assert "Verification: OK" in told and "Compression: NONE" in told and "New Session Ticket" not in told
    told = talk(house.edge.https, ISSUED, tmp_path / "root.pem", "R\n", "-tls1_2")
    assert "RENEGOTIATING" in told and "no renegotiation" in told


def test_files_that_cannot_be_served_are_told_before_the_server_starts(tmp_path: Path) -> None:
    root = Root()
    chain, key = root.put(tmp_path, "a", root.pair(OWN))
    key.chmod(0o644)
    for command in (("up", "--http", "off", "--https", "127.0.0.1:0"), ("up", "--check")):
        done = run(*command, home=tmp_path, WELLHEAD_TLS_FILES=f"{chain}:{key}")
        assert done.returncode != 0
        assert f"tls_files: {key} has mode 644, expected 600 or 640; run: chmod" in done.stderr
    done = run("up", "--check", home=tmp_path, WELLHEAD_ISSUER="files")
    assert done.returncode != 0 and "tls_files: needed, because issuer is files" in done.stderr


def test_agents_of_a_server_with_a_certificate_for_its_own_name_need_only_trust_that(tmp_path: Path) -> None:
    """At first it has expired, which is told in words and not answered with a key. Then it is renewed."""
    root = Root()
    ca_file = tmp_path / "root.pem"
    ca_file.write_text(root.pem)
    chain, key = root.put(tmp_path, "a", root.pair("localhost", "*.x.test", begins=-2 * DAY, ends=-DAY))
    settings = {"domain": "x.test", "zone": "localhost", "tls_files": f"{chain}:{key}"}
    with Edge(tmp_path, settings=settings) as edge:
        here = f"https://localhost:{edge.https}"
        edge.line(r"certificate is not valid now .*a\.pem ended on")
        done = run("tunnels", "list", home=tmp_path, WELLHEAD_CA_FILE=str(ca_file))
        assert done.returncode == 6, done.stderr
        assert f"cannot trust {here}: its certificate has expired by this machine's clock" in done.stderr
        assert "--ca-file" not in done.stderr
        root.put(tmp_path, "a", root.pair("localhost", "*.x.test"))
        edge.signal(signal.SIGHUP)
        edge.line(r"certificate loaded .*names=\*\.x\.test,localhost", after=0)
        eventually(
            lambda: run("tunnels", "list", home=tmp_path, WELLHEAD_CA_FILE=str(ca_file)).returncode == 0, 20
        )
        with edge.agent(1, "--name", "own", WELLHEAD_CA_FILE=str(ca_file)):
            pass
