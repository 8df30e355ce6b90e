"""Sandboxes that end, pause, move and lose their host under their visitors: seen within a second, and no
request is done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psutil
import pytest
from websockets.asyncio.client import connect

from tests.kit.fronts import Front
from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.programs import eventually
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer
from tests.kit.visitors import Truncated, ask, request, visiting
from tests.system.test_with_host import LATE_SECONDS, host_of

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

CHANGE_SECONDS = 1.0


ECHO = r"""
import base64, hashlib, re, socket

peer, _ = socket.create_server(("127.0.0.1", 3000)).accept()
head = b""
while b"\r\n\r\n" not in head:
    head += peer.recv(4096)
key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)[1]
accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
peer.sendall(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
kind = 0
while kind != 0x88:
    kind, size = peer.recv(2, socket.MSG_WAITALL)
    mask, data = peer.recv(4, socket.MSG_WAITALL), peer.recv(size & 127, socket.MSG_WAITALL)
    peer.sendall(bytes([kind, len(data)]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
"""


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    with harbouring(tmp_path_factory.mktemp("changes") / ".wellhead") as harbour:
        yield harbour


@pytest.fixture
def sandbox(harbour: Harbour) -> str:
    """One that a test may end."""
    return harbour.api.create()


async def here(peer: Peer) -> None:
    while await peer.request():
        await peer.reply(b"here")


async def until(harbour: Harbour, front: Front, *statuses: int) -> float:
    """Seconds until the name answers with one of these."""
    watch = Stopwatch(harbour.edge)
    while (status := (await ask(harbour.edge, front.hostname)).status) not in statuses:
        assert watch.wall() < LATE_SECONDS, f"still {status}"
    return watch.seconds()


@pytest.mark.parametrize(
    ("order", "statuses"), [(("DELETE", "", 204), (404, 409)), (("POST", "/pause", 200), (409,))]
)
async def test_what_was_ordered_shows_at_once_and_nothing_stale_answers(
    harbour: Harbour, sandbox: str, order: tuple[str, str, int], statuses: tuple[int, ...]
) -> None:
    front = harbour.front(sandbox=sandbox)
    method, path, expected = order
    async with front.serving(here):
        assert (await ask(harbour.edge, front.hostname)).body == b"here"  # a connection is kept
        await asyncio.to_thread(harbour.api.ask, method, f"/sandboxes/{sandbox}{path}", expected)
        assert await until(harbour, front, *statuses) < CHANGE_SECONDS
        for _ in range(20):
            assert (await ask(harbour.edge, front.hostname)).status in statuses
        if path:
            await asyncio.to_thread(harbour.api.ask, "POST", f"/sandboxes/{sandbox}/resume")
            assert await until(harbour, front, 200) < CHANGE_SECONDS


async def test_who_may_see_a_port_is_settled_anew_at_once(harbour: Harbour, sandbox: str) -> None:
    front = harbour.front(sandbox=sandbox)

    async def change(**members: object) -> None:
        await asyncio.to_thread(harbour.api.ask, "PATCH", f"/sandboxes/{sandbox}", json=members)

    async with front.serving(here), visiting(harbour.edge, front.hostname) as visitor:
        host = front.host("tls")
        assert (await visitor.get("/", host)).body == b"here"
        await change(visibility="private")
        assert (await visitor.get("/", host)).status == 401
        assert (await visitor.get("/", host, f"X-API-Key: {harbour.edge.key}")).body == b"here"
        await change(port_visibility={str(front.port): "public"})
        assert (await visitor.get("/", host)).body == b"here"
        await change(port_visibility={str(front.port): None})
        link = await asyncio.to_thread(
            harbour.api.ask, "POST", f"/sandboxes/{sandbox}/links", 201, json={"port": front.port}
        )
        target = link["url"].removeprefix(front.url)
        assert (await visitor.get(target, host)).body == b"here"
        await asyncio.to_thread(harbour.api.ask, "DELETE", f"/sandboxes/{sandbox}/links", 204)
        assert (await visitor.get(target, host)).status == 401


async def test_a_pause_freezes_a_conversation_and_its_resuming_goes_on_with_it(
    harbour: Harbour, sandbox: str
) -> None:
    # A program of the sandbox's own: what a test serves in its network is not paused with it.
    program = {"argv": ["python3", "-c", ECHO], "background": True}
    harbour.api.ask("POST", f"/sandboxes/{sandbox}/exec", 202, json=program)
    url = f"wss://{harbour.hostname(sandbox=sandbox)}:{harbour.edge.https}/"
    async with connect(url, host="127.0.0.1", ssl=harbour.edge.trust(), proxy=None) as client:
        await client.send("one")
        assert await client.recv() == "one"
        await asyncio.to_thread(harbour.api.ask, "POST", f"/sandboxes/{sandbox}/pause")
        await client.send("two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.recv()
        await asyncio.to_thread(harbour.api.ask, "POST", f"/sandboxes/{sandbox}/resume")
        async with asyncio.timeout(10):
            assert await client.recv() == "two"


async def test_the_end_of_a_sandbox_ends_what_its_visitors_have_open(harbour: Harbour, sandbox: str) -> None:
    async def begins(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await peer.closed()

    front = harbour.front(sandbox=sandbox)
    async with front.serving(begins), visiting(harbour.edge, front.hostname) as visitor:
        await visitor.send(request("/", front.host("tls")))
        assert (await visitor.head()).status == 200
        assert await visitor.reader.readexactly(4) == b"some"
        await asyncio.to_thread(harbour.api.ask, "DELETE", f"/sandboxes/{sandbox}", 204)
        watch = Stopwatch(harbour.edge)
        with contextlib.suppress(ConnectionError):
            assert await visitor.reader.read() == b""  # short of what was said: no clean end
        assert watch.seconds() < CHANGE_SECONDS


async def test_a_host_that_is_lost_shows_at_once_and_its_sandboxes_come_back_with_it(
    harbour: Harbour, sandbox: str
) -> None:
    front = harbour.front(sandbox=sandbox)
    async with front.serving(here), visiting(harbour.edge, front.hostname) as open_one:
        assert (await open_one.get("/", front.host("tls"))).body == b"here"
        host = host_of(harbour.edge)
        host.kill()
        assert await until(harbour, front, 503) < CHANGE_SECONDS
        reply = await open_one.get("/", front.host("tls"))
        assert reply.status == 503 and int(reply.get("retry-after") or 0) > 0
        await asyncio.to_thread(eventually, lambda: host_of(harbour.edge).pid != host.pid, LATE_SECONDS)
        # Its sandboxes ended with it, or are there again: never an answer of anything else.
        await until(harbour, front, 200, 404, 409)
    with contextlib.suppress(psutil.NoSuchProcess):
        host.wait(1)


class Counting:
    """Counts what it was asked to do. ``survives``: how many requests of a connection it answers."""

    def __init__(self, survives: int) -> None:
        self.done: list[bytes] = []
        self._survives = survives

    async def __call__(self, peer: Peer) -> None:
        for _ in range(self._survives):
            self.done.append((await peer.request()).split(b" ")[0])
            await peer.reply(b"done")
        head = await peer.request()
        self.done.append(head.split(b" ")[0])
        peer.reset()


@pytest.mark.parametrize("survives", [0, 1], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_have_been_done_is_never_done_again(
    harbour: Harbour, method: str, survives: int
) -> None:
    """An application that dies with a request in its hands has had it once."""
    front, app = harbour.front(), Counting(survives)
    async with front.serving(app):
        for _ in range(survives):
            assert (await ask(harbour.edge, front.hostname)).body == b"done"
        reply = await ask(harbour.edge, front.hostname, "/order", "Content-Length: 0", method=method)
        assert reply.status == 502
    assert app.done == [b"GET"] * survives + [method.encode()]


async def test_a_request_with_a_body_that_began_is_never_done_again(harbour: Harbour) -> None:
    done: list[bytes] = []

    async def app(peer: Peer) -> None:
        head = await peer.request()
        if head.startswith(b"GET"):
            await peer.reply(b"kept")
            head = await peer.request()
        done.append(await peer.body(4))
        peer.reset()

    front = harbour.front()
    async with front.serving(app):
        assert (await ask(harbour.edge, front.hostname)).body == b"kept"
        async with visiting(harbour.edge, front.hostname) as visitor:
            await visitor.send(request("/", front.host("tls"), "Content-Length: 9", method="PUT"), b"four")
            try:
                assert (await visitor.reply()).status == 502
            except (Truncated, ConnectionError):
                pass
    assert done == [b"four"]


async def test_a_kept_connection_that_died_unused_costs_nobody_anything(harbour: Harbour) -> None:
    """One retry, for which not a byte was sent or which may be repeated: a GET."""
    answered = 0

    async def once(peer: Peer) -> None:
        nonlocal answered
        await peer.request()
        answered += 1
        await peer.reply(b"once")  # and hangs up

    front = harbour.front()
    async with front.serving(once):
        for _ in range(20):
            assert (await ask(harbour.edge, front.hostname)).body == b"once"
    assert answered == 20
