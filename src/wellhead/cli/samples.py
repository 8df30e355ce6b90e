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
from wellhead.cli.sample_answers import ANSWERS, SANDBOX_ID
from wellhead.cli.trust_steps import Machine
from wellhead.client import Client
from wellhead.model.access import Secret

if TYPE_CHECKING:
    from wellhead.client.calls import Call

T = TypeVar("T")

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
    f"wellhead sandbox pause {SANDBOX_ID}",
    f"wellhead sandbox ps {SANDBOX_ID}",
    f"wellhead sandbox exec --detach --tag job {SANDBOX_ID} -- make test",
    f"wellhead sandbox ports {SANDBOX_ID}",
    f"wellhead sandbox url {SANDBOX_ID} 8000",
    f"wellhead sandbox share {SANDBOX_ID} 3000 --expires 1h",
    f"wellhead sandbox share {SANDBOX_ID} 3000 --public",
    f"wellhead sandbox rm {SANDBOX_ID} --yes",
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


class _MadeUp(Client):
    """Answers as a server would that has what stands in ``sample_answers``."""

    def send(self, call: Call[T], /) -> T:
        return call.read(ANSWERS[f"{call.method} {call.path}"])


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
