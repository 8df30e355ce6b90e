"""What a visitor of a sandbox's port is told when nothing answers, word by word, and what never is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.upstreams import Peer
from tests.kit.visitors import Reply, ask, visiting
from wellhead.model.sandboxes import new_sandbox_id

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
TARGET = "/secret-target?token=secret-query"
INTERNAL = re.compile(
    rb"\b(?:10|127|169\.254)\.\d+\.\d+\.\d|::1\b|/proc/|/sys/|\bwh\d+[hi]\b|[Ee]rrno|Traceback"
)


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    home = tmp_path_factory.mktemp("statuses") / ".wellhead"
    with harbouring(home, settings={"reply_seconds": 1, "host_port_retry_seconds": 0.1}) as harbour:
        yield harbour
        # The addresses inside are nobody's business, in the log neither.
        assert harbour.kept().address not in harbour.edge.text


async def told(harbour: Harbour, hostname: str) -> tuple[int, str]:
    """Status and reason of the page for a hostname; it is the same in JSON and in HTML, and shows nothing."""
    data = await ask(harbour.edge, hostname, TARGET, "Accept: */*")
    page = await ask(harbour.edge, hostname, TARGET, BROWSER)
    facts = json.loads(data.body)
    assert data.status == page.status == facts["status"]
    assert facts["request_id"] == data.get("x-request-id")
    assert (page.get("content-type") or "").startswith("text/html")
    assert (page.get("x-request-id") or "-").encode() in page.body
    assert facts["title"].encode() in page.body
    for reply in (data, page):
        _shows_nothing(harbour, hostname, reply)
    return data.status, facts["reason"]


def _shows_nothing(harbour: Harbour, hostname: str, reply: Reply) -> None:
    whole = "\n".join(f"{name}: {value}" for name, value in reply.fields).encode() + reply.body
    sandbox = hostname.partition(".")[0].partition("-")[2]
    assert not INTERNAL.search(whole), whole
    for each in (harbour.kept().address, sandbox, hostname, "secret-target", "secret-query"):
        assert each.encode() not in whole, whole
    assert reply.get("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("0-{}", (400, "port-number")),
        ("65536-{}", (400, "port-number")),
        ("03000-{}", (400, "port-number")),
        ("99999999999999999999-{}", (400, "port-number")),
        ("3000-cl-1", (400, "sandbox-id")),
        ("3000-{}0", (400, "sandbox-id")),
        ("3000-cl-" + "z" * 25, (400, "sandbox-id")),
        ("3000-cl-" + "z" * 50, (400, "sandbox-id")),
        ("3000-{other}", (404, "unknown-sandbox")),
        ("49983-{}", (403, "port-denied")),
        ("49983-{other}", (403, "port-denied")),
        ("3000-{}", (502, "port-closed")),
    ],
)
async def test_a_name_that_leads_nowhere_says_why(
    harbour: Harbour, label: str, expected: tuple[int, str]
) -> None:
    name = label.format(harbour.sandbox, other=new_sandbox_id())
    assert await told(harbour, f"{name}.localhost") == expected


async def test_upper_case_and_a_last_dot_are_the_same_name(harbour: Harbour) -> None:
    async def app(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"here")

    front = harbour.front()
    async with front.serving(app):
        for host in (front.hostname.upper(), front.hostname + ".", front.hostname.replace("-cl-", "-CL-")):
            async with visiting(harbour.edge, None) as visitor:
                assert (await visitor.get("/", f"{host}:{harbour.edge.http}")).body == b"here"


async def test_a_sandbox_answers_under_no_domain_but_ours(harbour: Harbour) -> None:
    """Else a name that somebody owns could be pointed here, and its pages share an origin with a sandbox."""

    async def app(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"rebound")

    front = harbour.front()
    label = front.hostname.partition(".")[0]
    async with front.serving(app):
        for host in (
            f"{label}.attacker.example",
            f"{label}.localhost.attacker.example",
            f"{label}.sub.localhost",
            f"{label}-localhost",
            f"x{label}.localhost",
            label,
        ):
            async with visiting(harbour.edge, None) as visitor:
                reply = await visitor.get("/", host)
            assert reply.status in (404, 421) and b"rebound" not in reply.body


async def test_an_application_that_breaks_off_is_not_one_that_is_not_there(harbour: Harbour) -> None:
    async def hangs_up(peer: Peer) -> None:
        await peer.request()

    async def resets(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async def is_no_http(peer: Peer) -> None:
        await peer.say(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        await peer.closed()

    async def never_answers(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    front = harbour.front()
    for app, expected in (
        (hangs_up, (502, "app-broke")),
        (resets, (502, "app-broke")),
        (is_no_http, (502, "app-broke")),
        (never_answers, (504, "app-late")),
    ):
        async with front.serving(app):
            assert await told(harbour, front.hostname) == expected
    assert await told(harbour, front.hostname) == (502, "port-closed")


async def test_a_sandbox_that_does_not_run_says_so(harbour: Harbour) -> None:
    sandbox = harbour.api.create()
    front = harbour.front(sandbox=sandbox)

    async def app(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"here")

    async with front.serving(app):
        assert (await ask(harbour.edge, front.hostname)).body == b"here"
        harbour.api.ask("POST", f"/sandboxes/{sandbox}/pause")
        assert await told(harbour, front.hostname) == (409, "sandbox-not-running")
        harbour.api.ask("POST", f"/sandboxes/{sandbox}/resume")
        assert (await ask(harbour.edge, front.hostname)).body == b"here"
        harbour.api.ask("DELETE", f"/sandboxes/{sandbox}", 204)
        status, reason = await told(harbour, front.hostname)
        assert (status, reason) in ((409, "sandbox-not-running"), (404, "unknown-sandbox"))


async def test_a_tunnel_cannot_take_the_name_of_a_port(harbour: Harbour) -> None:
    for name in (f"3000-{harbour.sandbox}", f"65536-{harbour.sandbox}", "1-cl-x", "0-cl-" + "z" * 25):
        harbour.api.ask("POST", "/tunnels", 422, json={"name": name})


async def test_neither_the_api_nor_the_agents_door_is_behind_a_port(harbour: Harbour) -> None:
    """D9: what a path means at the control plane's name it does not mean here, and the other way round."""
    targets: list[bytes] = []

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            targets.append(head.split()[1])
            await peer.reply(b"the application's")

    front = harbour.front()
    paths = ("/api/v1/sandboxes", "/_system/hello", "/.well-known/acme-challenge/x", "/healthz", "/metrics")
    async with front.serving(app):
        for path in paths:
            reply = await ask(harbour.edge, front.hostname, path, f"X-API-Key: {harbour.edge.key}")
            assert reply.body == b"the application's" or path.startswith("/.well-known/acme"), path
    assert [path.encode() for path in paths if not path.startswith("/.well-known/acme")] == targets
    async with visiting(harbour.edge, "localhost") as visitor:
        host = f"{front.hostname}:{harbour.edge.https}"
        assert (await visitor.get("/", host)).status == 421
    async with visiting(harbour.edge, front.hostname) as visitor:
        host = f"localhost:{harbour.edge.https}"
        assert (await visitor.get("/api/v1/sandboxes", host)).status == 421
