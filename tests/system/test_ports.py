"""Ports of real sandboxes by their names: protocols, statuses, and what visitors see of a sandbox's life."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.kit import port_app
from tests.kit.hosted import NEEDED, hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge, eventually
from tests.kit.visitors import PATIENCE, Reply, Visitor, ask, visiting
from wellhead.model.sandboxes import new_sandbox_id

pytestmark = [*NEEDED, pytest.mark.timeout(180)]

APP = Path(port_app.__file__)
PORT, LATE_SECONDS, SECONDS = 3000, 3, 30.0
SEEN_SECONDS = 1.0  # in which everybody at the edge sees what has become of a sandbox (D5)
EVEN_SLOW = 4.0  # times that, on a machine that does much else


@dataclass
class Place:
    """A server with a host, and a sandbox whose application listens on PORT."""

    edge: Edge
    api: SandboxApi
    sandbox: str

    def name(self, port: int | str = PORT, sandbox: str = "") -> str:
        return f"{port}-{sandbox or self.sandbox}.localhost"

    async def ask(self, target: str = "/", *fields: str, method: str = "GET", **where: Any) -> Reply:
        return await ask(self.edge, self.name(**where), target, *fields, method=method)

    async def page(self, target: str = "/", **where: Any) -> tuple[int, str]:
        """Status and reason of a page of the edge."""
        reply = await self.ask(target, **where)
        return reply.status, json.loads(reply.body)["reason"]

    def started(self, port: int = PORT, **members: object) -> str:
        """A sandbox more with the application in it."""
        sandbox = self.api.create(**members)
        start(self.api, sandbox, port)
        return sandbox

    def socket(self, sandbox: str, *, secure: bool = True, **options: Any) -> connect:
        name = self.name(sandbox=sandbox)
        port = self.edge.https if secure else self.edge.http
        if secure:
            options |= {"ssl": self.edge.trust(), "server_hostname": name}
        return connect(
            f"{'wss' if secure else 'ws'}://{name}:{port}/ws", host="127.0.0.1", port=port, proxy=None,
            open_timeout=SECONDS, **options,
        )  # fmt: skip


def start(api: SandboxApi, sandbox: str, port: int, address: str = "127.0.0.1") -> None:
    """Start the application and go on at once: who asks for it waits for it."""
    script = base64.b64encode(APP.read_bytes()).decode()
    api.run(sandbox, "sh", "-c", f"echo {script} | base64 -d > /tmp/app.py")
    command = ["/usr/bin/python3", "/tmp/app.py", str(port), address]
    api.ask("POST", f"/sandboxes/{sandbox}/exec", 202, json={"argv": command, "background": True})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = {"reply_seconds": LATE_SECONDS, "access_log": "stderr"}
    with hosted(tmp_path_factory.mktemp("ports") / ".wellhead", settings=settings) as edge:
        with SandboxApi(edge) as api:
            made = Place(edge, api, "")
            made.sandbox = made.started()
            yield made


def told(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, (reply.status, reply.body)
    found: dict[str, Any] = json.loads(reply.body)
    found["fields"] = {name.lower(): value for name, value in found["fields"]}
    return found


# Every protocol


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
async def test_a_target_arrives_byte_for_byte_and_the_application_knows_where_it_is(
    place: Place, secure: bool
) -> None:
    name, port = place.name(), place.edge.https if secure else place.edge.http
    scheme = "https" if secure else "http"
    async with visiting(place.edge, name if secure else None) as visitor:
        for target in ("/echo/a%2Fb//c/", "/echo/?q=%20&wellhead=1", "/echo/..%2f%2e%2e/;x", "/echo/\xe9"):
            origin = f"Origin: {scheme}://{name}:{port}"
            seen = told(await visitor.get(target, f"{name}:{port}", origin, "X-Forwarded-For: 9.9.9.9"))
            assert seen["target"] == target
            fields = seen["fields"]
            assert fields["host"] == f"localhost:{PORT}" and fields["origin"] == f"http://localhost:{PORT}"
            assert fields["x-forwarded-host"] == f"{name}:{port}" and fields["x-forwarded-proto"] == scheme
            assert fields["x-forwarded-for"] == "127.0.0.1"
            assert not [field for field in fields if field.startswith("wellhead")]
        foreign = told(await visitor.get("/echo", f"{name}:{port}", "Origin: https://evil.example"))
        assert foreign["fields"]["origin"] == "https://evil.example"


def test_http2_visitors_come_through(place: Place, tmp_path: Path) -> None:
    name = place.name()
    body = random.Random(9).randbytes(3_000_000)
    (tmp_path / "body").write_bytes(body)
    where = f"{name}:{place.edge.https}"
    done = subprocess.run(
        ["curl", "-sS", "--http2", "--resolve", f"{where}:127.0.0.1", "--cacert", str(place.edge.ca), "-w",
         "\n%{http_version}", "--data-binary", f"@{tmp_path / 'body'}", f"https://{where}/echo//x%2Fy/"],
        capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    answer, version = done.stdout.decode().split("\n")
    seen = json.loads(answer)
    assert version == "2" and seen["target"] == "/echo//x%2Fy/"
    assert (seen["size"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
async def test_a_websocket_is_carried_both_ways(place: Place, secure: bool) -> None:
    async with place.socket(place.sandbox, secure=secure, compression=None) as socket:
        for message in ("hello", b"\0" * 40_000):
            await socket.send(message)
            async with asyncio.timeout(SECONDS):
                assert await socket.recv() == message


async def test_an_event_is_there_when_it_was_said(place: Place) -> None:
    async with visiting(place.edge, place.name()) as visitor:
        await visitor.send(f"GET /events HTTP/1.1\r\nHost: {place.name()}\r\n\r\n".encode())
        assert (await visitor.head()).status == 200
        assert await visitor.chunk() == b"data: begun\n\n"


async def test_a_large_reply_is_whole(place: Place) -> None:
    size = 20_000_000
    reply = await place.ask(f"/bulk/{size}")
    assert reply.status == 200 and len(reply.body) == size
    assert reply.body[:65536] == bytes(range(256)) * 256


# Every status


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("0-{}", (400, "port-number")),
        ("65536-{}", (400, "port-number")),
        ("3000-cl-" + "z" * 25, (400, "sandbox-id")),
        ("49983-{}", (403, "port-denied")),
        (f"3000-{new_sandbox_id()}", (404, "unknown-sandbox")),
        ("3999-{}", (502, "port-closed")),
    ],
)
async def test_a_name_behind_which_nothing_is_says_what_is_wrong(
    place: Place, label: str, expected: tuple[int, str]
) -> None:
    reply = await ask(place.edge, label.format(place.sandbox) + ".localhost")
    page = json.loads(reply.body)
    assert (reply.status, page["reason"]) == expected
    for word in ("10.", "127.", "169.254", "tunnel", "agent", "dial"):
        assert word not in page["title"] + page["detail"]


@pytest.mark.parametrize(
    ("target", "expected"), [("/broken", (502, "app-broke")), ("/silent", (504, "app-late"))]
)
async def test_an_application_that_fails_is_told_from_one_that_is_not_there(
    place: Place, target: str, expected: tuple[int, str]
) -> None:
    assert await place.page(target) == expected
    html = await place.ask(target, "Accept: text/html")
    assert html.status == expected[0] and b"<title>" in html.body


async def test_a_reply_that_breaks_off_is_seen_to(place: Place) -> None:
    async with visiting(place.edge, place.name()) as visitor:
        await visitor.send(f"GET /cut HTTP/1.1\r\nHost: {place.name()}\r\n\r\n".encode())
        assert (await visitor.head()).status == 200
        assert await visitor.rest() == b"some"


async def test_the_access_line_says_which_port_it_was(place: Place) -> None:
    mark = place.edge.mark()
    await place.ask("/echo/line")
    asked = "peer=127.0.0.1 method=GET target=/echo/line status=200"
    assert place.edge.line(f" access port={PORT}-{place.sandbox} {asked} ", after=mark)


# What becomes of a sandbox


async def frozen(place: Place, sandbox: str, socket: ClientConnection) -> None:
    """Pause it; its conversation stays, and goes on after it was resumed."""
    place.api.ask("POST", f"/sandboxes/{sandbox}/pause")
    await asyncio.to_thread(eventually, lambda: place.api.status(sandbox) == "paused", SECONDS)
    assert await place.page("/echo", sandbox=sandbox) == (409, "sandbox-not-running")
    await socket.send("while it was away")
    place.api.ask("POST", f"/sandboxes/{sandbox}/resume")
    async with asyncio.timeout(SECONDS):
        assert await socket.recv() == "while it was away"
    assert (await place.ask("/echo", sandbox=sandbox)).status == 200


async def test_pausing_and_ending_are_seen_at_once(place: Place) -> None:
    sandbox = await asyncio.to_thread(place.started)
    async with (
        place.socket(sandbox, compression=None, close_timeout=1) as socket,
        visiting(place.edge, place.name(sandbox=sandbox)) as listener,
    ):
        await listener.send(f"GET /events HTTP/1.1\r\nHost: {place.name(sandbox=sandbox)}\r\n\r\n".encode())
        assert (await listener.head()).status == 200 and await listener.chunk()
        await socket.send("before")
        assert await socket.recv() == "before"
        await frozen(place, sandbox, socket)
        began = time.monotonic()
        await asyncio.to_thread(place.api.ask, "DELETE", f"/sandboxes/{sandbox}", 204)
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), SECONDS)
        assert socket.close_code == 1001
        await cut_off(listener)
        status, reason = await place.page("/echo", sandbox=sandbox)
        assert (status, reason) in ((409, "sandbox-not-running"), (404, "unknown-sandbox"))
        assert time.monotonic() - began < SEEN_SECONDS * EVEN_SLOW


async def cut_off(listener: Visitor) -> None:
    """Its reply, in chunks, ends without the last one."""
    assert await listener.rest(PATIENCE) == b""


async def test_a_request_resumes_a_sandbox_that_says_so(place: Place) -> None:
    sandbox = await asyncio.to_thread(place.started, auto_resume=True)
    await asyncio.to_thread(eventually, lambda: place.api.status(sandbox) == "running", SECONDS)
    assert (await place.ask("/echo", sandbox=sandbox)).status == 200
    for _ in range(2):
        place.api.ask("POST", f"/sandboxes/{sandbox}/pause")
        await asyncio.to_thread(eventually, lambda: place.api.status(sandbox) == "paused", SECONDS)
        replies = await asyncio.gather(*(place.ask(f"/echo/{at}", sandbox=sandbox) for at in range(5)))
        assert [told(reply)["target"] for reply in replies] == [f"/echo/{at}" for at in range(5)]
        assert place.api.status(sandbox) == "running"
    place.api.ask("DELETE", f"/sandboxes/{sandbox}", 204)
