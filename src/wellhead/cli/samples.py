"""What each verb prints, for the reference page: the verbs themselves, asking a server that is made up."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wellhead.cli import doctor, trust
from wellhead.cli.asking import OPENER
from wellhead.cli.doctor_finding import Finding, failed, ok
from wellhead.cli.doctor_server import KEY_REMEDY
from wellhead.cli.output import tell
from wellhead.cli.trust_steps import Machine
from wellhead.client import Client
from wellhead.model.access import Secret

if TYPE_CHECKING:
    from wellhead.client.calls import Call

T = TypeVar("T")

_SANDBOX_ID = "cl-4mxxb522covqurwjsiwd2ypgv"
LINES = (
    "wellhead up",
    "wellhead up --check",
    "wellhead http 8000 --name my-app",
    "wellhead demo --once",
    "wellhead tunnels list",
    "wellhead tunnels get my-agent",
    "wellhead tunnels get my-agent --json",
    "wellhead tunnels create my-agent --description 'the team notebook'",
    "wellhead tunnels update my-agent --description 'the team notebook'",
    "wellhead tunnels delete my-agent --yes",
    "wellhead tunnels restore my-agent",
    "wellhead tunnels force-delete my-agent --yes",
    "wellhead tunnels rotate-secret my-agent --yes",
    "wellhead identities create my-agent --display-name 'Team agent'",
    "wellhead identities list",
    "wellhead identities get my-agent",
    "wellhead identities delete my-agent --yes",
    "wellhead certs list",
    "wellhead certs renew my-agent",
    "wellhead certs list --server",
    "wellhead keys create 'build server' --scope tunnel:my-agent --expires 2030-01-31",
    "wellhead keys create 'my agent' --identity my-agent",
    "wellhead keys list",
    "wellhead keys revoke 'build server' --yes",
    "wellhead sandbox create python --timeout 3600 --label team=blue",
    "wellhead sandbox list",
    f"wellhead sandbox pause {_SANDBOX_ID}",
    f"wellhead sandbox ps {_SANDBOX_ID}",
    f"wellhead sandbox exec --detach --tag job {_SANDBOX_ID} -- make test",
    f"wellhead sandbox rm {_SANDBOX_ID} --yes",
    "wellhead host create-token big-one",
    "wellhead host list",
    "wellhead host drain big-one",
    "wellhead login https://tunnels.example.com < key",
    "wellhead profile show",
    "wellhead profile use https://localhost:8443",
    "wellhead profile forget https://tunnels.example.com --yes",
    "wellhead start --check",
    "wellhead doctor",
    "wellhead trust --dry-run",
    "wellhead service install up --dry-run",
    "wellhead service remove up --dry-run",
)

_TUNNELS = '[tunnels.my-app]\nforward_to = 8000\n[tunnels.my-api]\nforward_to = "10.0.0.7:8080"\n'
_FINDINGS = (
    ok("home", "/home/user/.wellhead and what is in it belong to this user alone"),
    ok("reach", "localhost:8443 accepts connections"),
    ok("trust", "the certificate is for localhost and trusted, by /home/user/.wellhead/server/ca.pem"),
    failed("key", "the server does not accept the API key: unknown, expired or revoked", KEY_REMEDY),
)
# An authority whose key nobody has.
_CA = """\
-----BEGIN CERTIFICATE-----
MIIB1zCCAX6gAwIBAgIUa1+h6C49ew7QQBEiT2tomoDZBcIwCgYIKoZIzj0EAwIw
ODERMA8GA1UECgwIV2VsbGhlYWQxIzAhBgNVBAMMGldlbGxoZWFkIGxvY2FsIENB
IDAyZWY3MjIyMB4XDTI2MTEyMTEyNDQ0MloXDTM2MTExODEzNDQ0MlowODERMA8G
A1UECgwIV2VsbGhlYWQxIzAhBgNVBAMMGldlbGxoZWFkIGxvY2FsIENBIDAyZWY3
MjIyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELXX457790VP/9acLWPZteIEi
IBPkHIZkORpwAd7EhFHAe6kHEA5UhAHXL1mgxU+nNcfQvdz5uyMV4vaJ89gbTaNm
MGQwEgYDVR0TAQH/BAgwBgEB/wIBADAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYE
FALvciKmLWnC02ukEfmbmWbImvPyMB8GA1UdIwQYMBaAFALvciKmLWnC02ukEfmb
mWbImvPyMAoGCCqGSM49BAMCA0cAMEQCIECitDAnx03OK+aCnBqNht+XBhy4GfBU
3EOwBZ1lsIzMAiAAoFZJ4NZdLeQlRAWzjEaMTAwDRmj9Bf8P3R7EJBJHRg==
-----END CERTIFICATE-----
"""

_ID = "0f5f9a6e-4a0b-4c53-9d1e-2f7b6a1c8e90"
_TUNNEL: dict[str, object] = {
    "id": _ID,
    "organization_id": "6d6b1a52-7a35-4d0c-8f6e-0b9a3c2d1e4f",
    "tunnel_name": "my-agent",
    "tls_mode": "edge",
    "status": "active",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "public_host": "my-agent.localhost",
    "zone": "localhost",
    "public_urls": ["https://my-agent.localhost:8443", "http://my-agent.localhost:8080"],
    "description": "the team notebook",
    "metadata": {"team": "blue"},
    "currently_connected": True,
    "last_connected_at": "2026-01-31T12:30:00Z",
    "last_disconnected_at": "2026-01-31T12:29:58Z",
    "last_connected_ip_addr": "192.0.2.7",
    "agent_version": "wellhead-python/0.1.0",
    "agent_identity_id": _ID,
}
_LEAVING = _TUNNEL | {
    "status": "delete_pending",
    "currently_connected": False,
    "restore_deadline_at": "2026-02-01T13:00:00Z",
}
_OLD = _LEAVING | {
    "tunnel_name": "old-agent",
    "public_urls": ["https://old-agent.localhost:8443", "http://old-agent.localhost:8080"],
}
_NEW = _TUNNEL | {
    "metadata": {},
    "currently_connected": False,
    "last_connected_at": None,
    "last_disconnected_at": None,
    "last_connected_ip_addr": None,
    "agent_version": None,
}
_KEY: dict[str, object] = {
    "id": "51a0f7a2-2f4d-4c9b-b7f6-90c1e1c0a9d4",
    "organization_id": _TUNNEL["organization_id"],
    "label": "build server",
    "scopes": [f"tunnel:{_ID}"],
    "status": "active",
    "display_prefix": "wh_EXAMPLE0",
    "last4": "4b7Q",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "expires_at": "2030-01-31T00:00:00Z",
    "scoped_identity_id": _ID,
    "created_by": "0c1d2e3f-5a6b-4c7d-8e9f-a0b1c2d3e4f5",
}
_FIRST_KEY = _KEY | {
    "id": "0c1d2e3f-5a6b-4c7d-8e9f-a0b1c2d3e4f5",
    "label": "",
    "scopes": ["admin"],
    "last4": "x0Zk",
    "expires_at": None,
    "scoped_identity_id": None,
    "created_by": "server",
}
_IDENTITY: dict[str, object] = {
    "id": _ID,
    "organization_id": _TUNNEL["organization_id"],
    "agent_handle": "my-agent",
    "display_name": "Team agent",
    "description": "the team notebook",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "tunnel": _TUNNEL,
}
_CERTIFICATE: dict[str, object] = {
    "id": "b1d4c8de-3c39-4a3e-8f2b-6f0f5c0f9a11",
    "organization_id": _TUNNEL["organization_id"],
    "tunnel_id": _ID,
    "hostname": "my-agent.localhost",
    "issuer": "local",
    "status": "issued",
    "serial": "1f6a2b9c0d3e4f58",
    "fingerprint_sha256": "28b9aed67992" + "0" * 52,
    "issued_at": "2026-01-31T12:00:00Z",
    "not_before": "2026-01-31T11:00:00Z",
    "expires_at": "2026-05-01T12:00:00Z",
    "days_left": 90.0,
    "renew_at": "2026-04-01T12:00:00Z",
}
_HOST: dict[str, object] = {
    "id": "host-0m1xqg8kq0k1y8m0p8nq3s5z7",
    "organization_id": _TUNNEL["organization_id"],
    "name": "big-one",
    "status": "online",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "runtime": "namespace",
    "vcpus": 16,
    "memory_mb": 24576,
    "disk_mb": 409600,
    "templates": ["minimal", "minimal-ubuntu", "python"],
    "agent": "wellhead-host/0.1.0",
    "address": "192.0.2.9",
    "last_seen_at": "2026-01-31T12:30:00Z",
    "sandboxes": 1,
}
_NEW_HOST = {key: _HOST[key] for key in ("id", "organization_id", "name", "created_at", "updated_at")}
_SANDBOX: dict[str, object] = {
    "id": _SANDBOX_ID,
    "organization_id": _TUNNEL["organization_id"],
    "status": "running",
    "template": "python",
    "vcpus": 1,
    "memory_mb": 512,
    "disk_size_mb": 5120,
    "timeout_sec": 3600,
    "created_at": "2026-01-31T12:00:00Z",
    "last_updated": "2026-01-31T12:00:00Z",
    "host_id": _HOST["id"],
    "metadata": {"team": "blue"},
}
_PROCESS: dict[str, object] = {
    "pid": 27,
    "tag": "job",
    "cmd": "make",
    "args": ["test"],
    "kind": "background",
    "user": "wrenn-user",
    "started_at": 1769860800,
}
_ANSWERS: dict[str, object] = {
    "POST /sandboxes": _SANDBOX,
    "GET /sandboxes": [_SANDBOX],
    f"GET /sandboxes/{_SANDBOX_ID}": _SANDBOX,
    f"POST /sandboxes/{_SANDBOX_ID}/pause": _SANDBOX | {"status": "paused"},
    f"GET /sandboxes/{_SANDBOX_ID}/processes": {"processes": [_PROCESS]},
    f"POST /sandboxes/{_SANDBOX_ID}/exec": {"pid": 27, "tag": "job"},
    f"DELETE /sandboxes/{_SANDBOX_ID}": None,
    "POST /hosts": {
        "host": _NEW_HOST | {"status": "pending"},
        "token": "wht_EXAMPLE",
        "expires_at": "2026-01-31T13:00:00Z",
    },
    "GET /hosts": [_HOST],
    f"PATCH /hosts/{_HOST['id']}": _HOST | {"status": "draining"},
    "GET /tunnels/": {"tunnels": [_TUNNEL, _OLD]},
    "POST /tunnels/": {"tunnel": _NEW, "connect_secret": "whs_EXAMPLE"},
    f"PATCH /tunnels/{_ID}": _TUNNEL,
    f"DELETE /tunnels/{_ID}": _LEAVING,
    f"POST /tunnels/{_ID}/restore": _TUNNEL,
    f"DELETE /tunnels/{_ID}/force": _LEAVING | {"status": "deleted"},
    f"POST /tunnels/{_ID}/rotate-secret": {"connect_secret": "whs_EXAMPLE"},
    "GET /server-certificates/": {
        "certificates": [
            {
                "name": "*.tunnels.example.com",
                "expires_at": "2026-05-01T12:00:00Z",
                "days_left": 61.2,
                "failures": 0,
                "reason": "",
            }
        ]
    },
    "GET /certificates/": {"certificates": [_CERTIFICATE]},
    f"POST /certificates/{_CERTIFICATE['id']}/renew": _CERTIFICATE,
    "GET /identities/": [_IDENTITY],
    "POST /identities/": _IDENTITY | {"tunnel": _NEW},
    "GET /identities/my-agent": _IDENTITY,
    "DELETE /identities/my-agent": None,
    "GET /keys/": {"keys": [_FIRST_KEY, _KEY]},
    "POST /keys/": {"api_key": "wh_EXAMPLE", "record": _KEY},
    f"DELETE /keys/{_KEY['id']}": _KEY | {"status": "revoked", "revoked_at": "2026-02-01T12:00:00Z"},
}


class _MadeUp(Client):
    """Answers as a server would that has what stands above."""

    def send(self, call: Call[T], /) -> T:
        return call.read(_ANSWERS[f"{call.method} {call.path}"])


def printed() -> dict[str, str]:
    """What each line prints, one after the other, to a user whose server is on the same machine."""
    from wellhead.profile import Profile

    with tempfile.TemporaryDirectory() as home, _environment(HOME=home, XDG_CONFIG_HOME=""):
        directory = Path(home) / ".wellhead"
        server = directory / "server"
        Profile(
            directory, "https://localhost:8443", api_key_file=server / "admin-key", ca_file=server / "ca.pem"
        ).save()
        server.mkdir(mode=0o700)
        (server / "ca.pem").write_text(_CA)
        (Path(home) / "wellhead.toml").write_text(_TUNNELS)
        with contextlib.chdir(home):
            told = {line: _printed(line) for line in LINES}
    return {line: _anywhere(text, home) for line, text in told.items()}


def _anywhere(text: str, home: str) -> str:
    """As it would read for a user who installed it as the first page says."""
    return text.replace(sys.executable, "/home/user/wellhead/bin/python").replace(home, "/home/user")


async def _examine(options: doctor.DoctorOptions) -> AsyncIterator[Finding]:
    for finding in _FINDINGS:
        yield finding


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What a visitor's request came to."""

    method: str = "GET"
    target: str = "/lab?token=abc"
    status: int = 200
    bytes_in: int = 0
    bytes_out: int = 4096
    total_ms: float = 3.1
    failure: str = ""
    peer: str = ""


def _up() -> None:
    from wellhead.cli.up import announce
    from wellhead.serve import Ready

    directory = Path.home() / ".wellhead" / "server"
    announce(
        Ready(
            https=["https://127.0.0.1:8443"],
            http=["http://127.0.0.1:8080"],
            api="https://localhost:8443/api/v1",
            key=Secret("wh_EXAMPLE"),
            data_dir=directory,
            ca_file=directory / "ca.pem",
            reload=lambda: None,
        )
    )


def _http() -> None:
    from wellhead.agent import Status
    from wellhead.cli.attending import StateLines
    from wellhead.cli.exchange_lines import format_line

    urls = ["https://my-app.localhost:8443", "http://my-app.localhost:8080"]
    state = StateLines(tell)
    state.opened(urls, "http://localhost:8000")
    state.changed(Status.CONNECTED, None)
    tell(format_line(_Exchange(), colour=False))


# Commands that do not end by themselves: what they tell, of a server and a visit that are made up.
_STAYING: dict[str, Callable[[], None]] = {"wellhead up": _up, "wellhead http 8000 --name my-app": _http}

# What is another at each run of the demo, which is a real one.
_VARYING = (
    (r"127\.0\.0\.1:\d+; nobody", "127.0.0.1:8000; nobody"),
    (r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:8443"),
    (r"HTTP on http://127\.0\.0\.1:\d+", "HTTP on http://127.0.0.1:8080"),
    (r"/\S*/wellhead-demo-\w+", "/tmp/wellhead-demo-x"),
    (r"tunnel \w+-\w+-\w+", "tunnel calm-otter-7k2p"),
    (r"https://\w+-\w+-\w+\.localhost:\d+", "https://calm-otter-7k2p.localhost:8443"),
    (r"SHA-256 \w+…", "SHA-256 28b9aed67992…"),
    (r"page, [\d.]+ m?s", "page, 7.7 ms"),
    (r"…, [\d.]+ m?s", "…, 18 ms"),
    (r"sent it, [\d.]+ m?s", "sent it, 250 ms"),
)


def _printed(line: str) -> str:
    if line in _STAYING:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            _STAYING[line]()
        return out.getvalue()
    text = _run(line)
    if line == "wellhead demo --once":
        for pattern, usual in _VARYING:
            text = re.sub(pattern, usual, text)
    return text


def _run(line: str) -> str:
    from wellhead.cli.main import run

    words = shlex.split(line.partition(" < ")[0])
    before = OPENER.set(lambda ask: _MadeUp(ask.url or "https://localhost:8443", Secret("wh_EXAMPLE")))
    examiner = doctor.EXAMINER.set(_examine)
    machine = trust.MACHINE.set(Machine(root=True, programs=frozenset({"update-ca-certificates"})))
    stdin, sys.stdin = sys.stdin, io.StringIO("wh_EXAMPLE4b7Q\n")
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = run(words[1:])
    finally:
        OPENER.reset(before)
        doctor.EXAMINER.reset(examiner)
        trust.MACHINE.reset(machine)
        sys.stdin = stdin
    assert code == (1 if line == "wellhead doctor" else 0), line  # it found something
    return out.getvalue()


@contextlib.contextmanager
def _environment(**changed: str) -> Iterator[None]:
    """Variables of ours away, these set."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WELLHEAD_")]:
        del os.environ[name]
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
