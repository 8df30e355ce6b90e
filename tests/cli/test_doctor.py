"""Each check is held to servers and machines that misbehave in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.certs import DAY, Root, authority
from tests.kit.programs import Edge, quiet_port, run
from wellhead import issued
from wellhead.cli import doctor_machine as machine
from wellhead.cli import doctor_server as far
from wellhead.cli.doctor import DoctorOptions, examine, exit_code, format_finding
from wellhead.cli.doctor_finding import Finding, Verdict, failed, ok, warning
from wellhead.cli.doctor_server import Server
from wellhead.model.access import Secret
from wellhead.net.authority import LocalAuthority
from wellhead.net.keypair import read_operators
from wellhead.net.tls import ALPN_HTTP
from wellhead.settings import ServerSettings
from wellhead.version import VERSION

HEALTHY = b'{"status":"ok","version":"%s"}'
OURS = VERSION.encode()


def _answer(body: bytes = HEALTHY % OURS, status: str = "200 OK", *, ago: float = 0.0) -> bytes:
    date = email.utils.formatdate(time.time() - ago, usegmt=True)
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@contextlib.asynccontextmanager
async def serving(
    reply: bytes | None, context: ssl.SSLContext | None = None, host: str = "localhost"
) -> AsyncIterator[Server]:
    """A server that answers everything with ``reply``; None: it accepts and says nothing."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if reply is None:
                    await asyncio.Event().wait()
                else:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(reply)
                    await writer.drain()
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Server(f"{'https' if context else 'http'}://{host}:{port}", environ={})
    finally:
        server.close()
        await server.wait_closed()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@pytest.fixture
def ca(tmp_path: Path) -> LocalAuthority:
    return authority(tmp_path)


def _with_ca(server: Server, ca: LocalAuthority) -> Server:
    return Server(server.url, ca.ca_file, {})


# The way to the server


async def test_a_name_that_nobody_has_is_said() -> None:
    finding = await far.check_name(Server("https://nowhere.invalid", environ={}))
    assert finding.verdict is Verdict.FAILED and "nowhere.invalid" in finding.found and finding.remedy


async def test_a_proxy_that_looks_names_up_excuses_our_resolver() -> None:
    server = Server("https://nowhere.invalid", environ={"HTTPS_PROXY": "http://127.0.0.1:1"})
    finding = await far.check_name(server)
    assert finding.verdict is Verdict.OK and "the proxy looks it up" in finding.found


async def test_a_port_where_nobody_listens_is_said() -> None:
    finding = await far.check_reach(Server(f"https://localhost:{quiet_port()}", environ={}))
    assert finding.verdict is Verdict.FAILED
    assert "connection refused" in finding.found and "wellhead up" in finding.remedy


async def test_a_proxy_that_is_not_there_is_named() -> None:
    port = quiet_port()
    server = Server("https://tunnels.example.com", environ={"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
    finding = await far.check_reach(server)
    assert finding.verdict is Verdict.FAILED and str(port) in finding.found


async def test_a_certificate_of_a_known_authority_is_trusted(ca: LocalAuthority) -> None:
    async with serving(_answer(), ca.leaf_context("localhost")) as server:
        finding = await far.check_trust(_with_ca(server, ca))
    assert finding.verdict is Verdict.OK, finding


async def test_an_unknown_authority_is_named(ca: LocalAuthority) -> None:
    async with serving(_answer(), ca.leaf_context("localhost")) as server:
        finding = await far.check_trust(server)
    assert finding.verdict is Verdict.FAILED
    assert "Wellhead local CA" in finding.found and "--ca-file" in finding.remedy


async def test_a_certificate_for_another_name_says_for_which(ca: LocalAuthority) -> None:
    async with serving(_answer(), ca.leaf_context("other.example")) as server:
        finding = await far.check_trust(_with_ca(server, ca))
    assert finding.verdict is Verdict.FAILED
    assert "for other.example, not for localhost" in finding.found


async def test_a_certificate_that_ended_is_told_from_one_that_has_not_begun(tmp_path: Path) -> None:
    for days, word in ((200, "ended on"), (-30, "begins on")):
        ca = authority(tmp_path, days_ago=days)
        async with serving(_answer(), ca.leaf_context("localhost")) as server:
            finding = await far.check_trust(_with_ca(server, ca))
        assert finding.verdict is Verdict.FAILED and word in finding.found, finding


async def test_a_port_without_tls_is_no_riddle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "STEP_SECONDS", 0.3)
    async with serving(_answer()) as server:
        finding = await far.check_trust(Server(server.url.replace("http:", "https:"), environ={}))
    assert finding.verdict is Verdict.FAILED and "TLS" in finding.found


async def test_a_ca_file_that_is_missing_is_named(tmp_path: Path) -> None:
    finding = await far.check_trust(Server("https://localhost:1", tmp_path / "none.pem", {}))
    assert finding.verdict is Verdict.FAILED and "none.pem" in finding.found


@pytest.mark.parametrize(
    ("ago", "verdict"),
    [(0, Verdict.OK), (-300, Verdict.WARNING), (300, Verdict.WARNING), (7200, Verdict.FAILED)],
)
async def test_a_clock_is_held_against_the_servers(ago: float, verdict: Verdict) -> None:
    async with serving(_answer(ago=ago)) as server:
        finding = await far.check_clock(server)
    assert finding.verdict is verdict
    if verdict is not Verdict.OK:
        assert ("ahead of" if ago > 0 else "behind") in finding.found


async def test_a_server_without_a_date_leaves_the_clock_alone() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as server:
        assert (await far.check_clock(server)).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (_answer(), Verdict.OK),
        (_answer(HEALTHY % b"99.1.0"), Verdict.WARNING),
        (_answer(b"<html>"), Verdict.FAILED),
        (_answer(b"[1]"), Verdict.FAILED),
        (_answer(b"", "404 Not Found"), Verdict.FAILED),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Verdict.FAILED),
        (b"", Verdict.FAILED),
    ],
    ids=["ours", "newer", "a page", "a list", "404", "ssh", "nothing"],
)
async def test_a_version_is_read_or_its_absence_told(reply: bytes, verdict: Verdict) -> None:
    async with serving(reply) as server:
        finding = await far.check_version(server, trusted=True)
    assert finding.verdict is verdict, finding


async def test_a_control_plane_that_is_away_is_not_taken_for_a_wrong_url() -> None:
    async with serving(_answer(b'{"reason": "control-away"}', "503 Service Unavailable")) as server:
        finding = await far.check_version(server, trusted=True)
    assert finding.verdict is Verdict.FAILED
    assert "control plane" in finding.found and "try again" in finding.remedy


async def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "STEP_SECONDS", 0.2)
    async with asyncio.timeout(5), serving(None) as server:
        finding = await far.check_version(server, trusted=True)
    assert finding.verdict is Verdict.FAILED and "no answer within" in finding.found


async def test_what_ends_tls_on_the_way_is_found_out(ca: LocalAuthority) -> None:
    async with serving(_answer(), ca.leaf_context("localhost")) as server:
        finding = await far.check_carrier(_with_ca(server, ca))
    assert finding.verdict is Verdict.FAILED and "wellhead/1" in finding.found + finding.remedy


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("200 OK", Verdict.OK),
        ("403 Forbidden", Verdict.OK),
        ("401 Unauthorized", Verdict.FAILED),
        ("503 Service Unavailable", Verdict.WARNING),
    ],
)
async def test_a_key_is_accepted_or_not(status: str, verdict: Verdict) -> None:
    async with serving(_answer(b"{}", status)) as server:
        assert (await far.check_key(server, Secret("wh_some"))).verdict is verdict


async def test_a_key_that_is_missing_or_broken_is_never_sent() -> None:
    nowhere = Server(f"http://localhost:{quiet_port()}", environ={})
    for key in (None, Secret("two words"), Secret("line\nbreak")):
        finding = await far.check_key(nowhere, key)
        assert finding.verdict is Verdict.FAILED and "--api-key" in finding.remedy


async def test_a_connect_secret_is_enough_for_an_agent() -> None:
    with_secret = Server("https://localhost:1", environ={"WELLHEAD_TUNNEL_SECRET": "whs_canary"})
    finding = await far.check_key(with_secret, None)
    assert finding.verdict is Verdict.OK and "whs_canary" not in finding.found


async def test_a_key_is_not_shown_to_a_server_that_is_not_trusted(ca: LocalAuthority) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=ca.leaf_context("localhost"))
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        finding = await far.check_key(Server(url, environ={}), Secret("wh_canary"))
    assert finding.verdict is Verdict.FAILED and not any(b"canary" in head for head in heard)


# This machine


@pytest.mark.parametrize(
    ("environ", "hostname", "verdict", "says"),
    [
        ({}, "a.example", Verdict.OK, "no proxy variable"),
        ({"HTTPS_PROXY": "http://p:3128"}, "a.example", Verdict.OK, "through p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, "localhost", Verdict.OK, "does not matter"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, "a.example", Verdict.OK, "excepts a.example"),
        ({"ALL_PROXY": "socks5://u:hush@p"}, "a.example", Verdict.FAILED, "ALL_PROXY must be an http:// URL"),
    ],
)
def test_a_proxy_variable_is_told_with_whether_it_matters(
    environ: dict[str, str], hostname: str, verdict: Verdict, says: str
) -> None:
    finding = machine.check_proxy(hostname, 443, environ)
    assert finding.verdict is verdict and says in finding.found and "hush" not in str(finding)


def _nothing(name: str) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "not known")


def test_a_resolver_that_does_not_know_localhost_names_is_no_failure() -> None:
    assert machine.check_localhost(lambda name: ["127.0.0.1", "::1"]).verdict is Verdict.OK
    assert machine.check_localhost(_nothing).verdict is Verdict.WARNING
    elsewhere = machine.check_localhost(lambda name: ["192.0.2.1"])
    assert elsewhere.verdict is Verdict.WARNING and "192.0.2.1" in elsewhere.found


@pytest.mark.parametrize(
    ("hard", "verdict"),
    [
        (256, Verdict.FAILED),
        (4096, Verdict.WARNING),
        (65536, Verdict.OK),
        (resource.RLIM_INFINITY, Verdict.OK),
    ],
)
def test_the_open_file_limit_is_judged_by_what_a_server_can_raise_it_to(hard: int, verdict: Verdict) -> None:
    assert machine.check_files((256, hard)).verdict is verdict


def test_a_home_is_refused_for_what_would_make_it_unsafe(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert machine.check_home(home).verdict is Verdict.OK
    home.mkdir(mode=0o700)
    assert machine.check_home(home).verdict is Verdict.OK
    home.chmod(0o777)
    loose = machine.check_home(home)
    assert loose.verdict is Verdict.FAILED and loose.remedy == f"run: chmod 700 {home}"
    home.chmod(0o700)
    (home / "server").mkdir(mode=0o700)
    (home / "server" / "admin-key").write_text("wh_x")
    (home / "server" / "admin-key").chmod(0o644)
    readable = machine.check_home(home)
    assert readable.verdict is Verdict.FAILED and "admin-key" in readable.found
    assert readable.remedy == f"run: chmod 600 {home / 'server' / 'admin-key'}"
    (home / "server" / "admin-key").chmod(0o600)
    (home / "profile.toml").write_text("url = ")
    (home / "profile.toml").chmod(0o600)
    assert "is not TOML" in machine.check_home(home).found


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(5)
        yield sock.getsockname()[1]


def test_a_port_that_another_program_has_is_a_fault_only_where_a_server_is_to_run(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "ASK_SECONDS", 0.2)
    here = machine.check_port("https", f"127.0.0.1:{taken}", needed=True)
    assert here.verdict is Verdict.FAILED and "already in use" in here.found
    assert here.remedy.endswith("`wellhead up --https 127.0.0.1:PORT`")
    assert machine.check_port("http", f"127.0.0.1:{taken}", needed=False).verdict is Verdict.WARNING


def test_an_address_of_no_interface_and_a_free_port_are_told() -> None:
    assert machine.check_port("http", None, needed=True).verdict is Verdict.OK
    assert machine.check_port("http", f"127.0.0.1:{quiet_port()}", needed=True).verdict is Verdict.OK
    strange = machine.check_port("http", "192.0.2.77:8080", needed=True)
    assert strange.verdict is Verdict.FAILED and "0.0.0.0" in strange.remedy


# All of it


def test_the_exit_code_is_1_only_for_what_failed() -> None:
    fine, odd = ok("a", "b"), warning("a", "b", "c")
    assert exit_code([fine, odd]) == 0
    assert exit_code([fine, failed("a", "b", "c"), odd]) == 1


def test_a_remedy_stands_on_a_line_of_its_own() -> None:
    assert format_finding(ok("home", "fine"), colour=False) == "ok    home       fine"
    first, second = format_finding(failed("key", "bad", "do"), colour=True).splitlines()
    assert "\x1b[31mfail" in first and second.strip() == "-> do"


async def _all(**options: str | None) -> dict[str, Finding]:
    given = DoctorOptions(
        url=options.get("url"),
        api_key=options.get("api_key"),
        ca_file=None,
        config=None,
        as_json=False,
    )
    async with asyncio.timeout(30):
        return {finding.check: finding async for finding in examine(given)}


async def test_without_a_server_the_rest_is_still_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path / "home"))
    found = await _all()
    assert found["server"].verdict is Verdict.WARNING and "wellhead up" in found["server"].remedy
    assert {"home", "files", "https", "http"} <= set(found)


async def test_what_lies_behind_a_failure_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path / "home"))
    found = await _all(url=f"https://localhost:{quiet_port()}", api_key="wh_x")
    assert found["reach"].verdict is Verdict.FAILED
    assert {found[name].verdict for name in ("trust", "clock", "version", "agents", "key")} == {
        Verdict.SKIPPED
    }


def test_a_machine_with_its_own_server_is_well(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Edge(home) as edge:
        config = home / "ports.toml"
        config.write_text(f'https = "127.0.0.1:{edge.https}"\nhttp = "127.0.0.1:{edge.http}"\n')
        well = run("doctor", "--json", "--config", str(config), home=home)
        ill = run("doctor", home=home, WELLHEAD_API_KEY="wh_wrong")
        few = run("doctor", "--quiet", home=home, WELLHEAD_API_KEY="wh_wrong")
    told = json.loads(well.stdout)
    verdicts = {check["check"]: check["verdict"] for check in told["checks"]}
    assert well.returncode == 0 and told["ok"] is True, well.stdout + well.stderr
    for check in ("https", "http", "reach", "trust", "clock", "version", "agents", "key"):
        assert verdicts[check] == "ok", told
    assert ill.returncode == 1 and "fail  key" in ill.stdout and "wh_wrong" not in ill.stdout + ill.stderr

    assert few.returncode == 1 and "\nok " not in f"\n{few.stdout}" and "fail  key" in few.stdout


def test_a_url_that_is_none_is_a_wrong_command_line(tmp_path: Path) -> None:
    ended = run("doctor", "--url", "gopher://x", home=tmp_path / "home")
    assert ended.returncode == 2 and "is not a server's URL" in ended.stderr


@pytest.mark.parametrize(
    ("ends", "verdict", "says"),
    [
        (60, Verdict.OK, "and trusted, by "),
        (13, Verdict.WARNING, "and trusted, but ends on "),
        (0.5, Verdict.WARNING, " in 0.5 days"),
    ],
)
async def test_a_servers_certificate_that_ends_soon_is_something_to_know_of(
    tmp_path: Path, ends: float, verdict: Verdict, says: str
) -> None:
    root = Root()
    (tmp_path / "root.pem").write_text(root.pem)
    pair = read_operators(*root.put(tmp_path, "a", root.pair("localhost", begins=-30 * DAY, ends=ends * DAY)))
    async with serving(_answer(), pair.context([ALPN_HTTP])) as server:
        finding = await far.check_trust(Server(server.url, tmp_path / "root.pem", {}))
        assert finding.verdict is verdict and says in finding.found


def test_certificates_in_files_are_looked_at_where_there_are_any(tmp_path: Path) -> None:
    root, directory = Root(), tmp_path / "data" / issued.DIRECTORY
    assert machine.check_certificates(ServerSettings(data_dir=tmp_path / "data")) is None
    chain, key = root.put(tmp_path, "own", root.pair("own.org"))
    settings = ServerSettings(data_dir=tmp_path / "data", tls_files=(f"{chain}:{key}",))
    finding = machine.check_certificates(settings)
    assert finding is not None and finding.verdict is Verdict.OK and finding.found.startswith("1 in files")

    for ends, verdict, says in (
        (80, Verdict.OK, "2 in files, the first to end does on "),
        (5, Verdict.WARNING, "fullchain.pem ends on "),
        (-1, Verdict.FAILED, "fullchain.pem ended on "),
    ):
        chain_pem, key_pem = root.pair("a.org", begins=-30 * DAY, ends=ends * DAY)
        issued.put(directory, "a.org", chain_pem=chain_pem, key_pem=key_pem, meta={})
        finding = machine.check_certificates(settings)
        assert finding is not None and finding.verdict is verdict and says in finding.found

    key.chmod(0o644)
    finding = machine.check_certificates(settings)
    assert finding is not None and finding.verdict is Verdict.FAILED
    assert "mode 644" in finding.found and finding.remedy == f"run: chmod u=rw,g-wx,o= {key}"
