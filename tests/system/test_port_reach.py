"""A port's name leads to that port of that sandbox, and whatever a request says, to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.fronts import Front
from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED, hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import eventually
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Reply, request, visiting

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

SERVE = "import http.server as s; s.test(s.SimpleHTTPRequestHandler, port={}, bind='127.0.0.1')"


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    home = tmp_path_factory.mktemp("reach") / ".wellhead"
    with harbouring(home, settings={"host_port_retry_seconds": 0.1}) as harbour:
        yield harbour


class Canary:
    """Listens where nobody may come; ``came`` counts who did."""

    def __init__(self) -> None:
        self.came = 0

    async def __call__(self, peer: Peer) -> None:
        self.came += 1
        await peer.request()
        await peer.reply(b"canary")


@contextlib.asynccontextmanager
async def canary(*socks: socket.socket) -> AsyncIterator[Canary]:
    bird = Canary()
    async with contextlib.AsyncExitStack() as stack:
        for sock in socks:
            await stack.enter_async_context(serving(bird, sock=sock))
        yield bird


async def plain(front: Front, head: bytes) -> Reply:
    async with visiting(front.edge, None) as visitor:
        await visitor.send(head)
        return await visitor.reply()


async def test_a_port_that_is_closed_inside_is_closed_whatever_listens_there_elsewhere(
    harbour: Harbour,
) -> None:
    """On this machine's loopback, on every address of it, and in another sandbox."""
    other = harbour.api.create()
    sock = socket.create_server(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    elsewhere = [sock, socket.create_server(("::1", port), family=socket.AF_INET6)]
    elsewhere += [harbour.front(port, other).listening(address) for address in ("127.0.0.1", "::1")]
    front = harbour.front(port)
    async with canary(*elsewhere) as bird:
        reply = await plain(front, request("/", front.host("plain")))
        assert reply.status == 502 and b"port-closed" in reply.body
        assert bird.came == 0
        there = harbour.front(port, other)
        assert (await plain(there, request("/", there.host("plain")))).body == b"canary"


async def test_the_servers_own_ports_are_not_those_of_a_sandbox(harbour: Harbour) -> None:
    for port in (harbour.edge.https, harbour.edge.http):
        front = harbour.front(port)
        reply = await plain(front, request("/api/v1/sandboxes", front.host("plain")))
        assert reply.status == 502 and b"port-closed" in reply.body


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "{own}"])
async def test_whatever_address_it_listens_on_inside_it_is_reached(harbour: Harbour, address: str) -> None:
    async def app(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"inside")

    front = harbour.front(4000)
    sock = front.listening(address.format(own=harbour.kept().address))
    async with serving(app, sock=sock):
        assert (await plain(front, request("/", front.host("plain")))).body == b"inside"


@pytest.mark.parametrize(
    "host",
    [
        "{port}-127.0.0.1.localhost", "{port}-127.1.localhost", "{port}-0x7f000001.localhost",
        "{port}-2130706433.localhost", "{port}-localhost.localhost", "{port}-[::ffff:127.0.0.1].localhost",
        "{port}-169.254.169.254.localhost", "127.0.0.1:{port}", "127.1:{port}", "0x7f000001:{port}",
        "0:{port}", "[::ffff:127.0.0.1]:{port}", "[::]:{port}", "169.254.169.254", "metadata.internal",
        "{port}-{sandbox}.localhost@127.0.0.1:{port}", "127.0.0.1:{port}@{port}-{sandbox}.localhost",
        "127.0.0.1:{port}#{port}-{sandbox}.localhost", "{port}-{sandbox}.localhost.:{port}/../",
        "{port}-{sandbox}%2e127.0.0.1.localhost", "{port}-{sandbox}\\@127.0.0.1",
        "{port}-{sandbox}_{port}-{sandbox}.localhost", "-{port}-{sandbox}.localhost",
        "+{port}-{sandbox}.localhost", "{port}.0-{sandbox}.localhost", "0x50-{sandbox}.localhost",
        "{port}-{port}-{sandbox}.localhost", "{wide}-{sandbox}.localhost",
    ],
)  # fmt: skip
async def test_what_is_no_name_of_a_port_reaches_nobody(harbour: Harbour, host: str) -> None:
    sock = socket.create_server(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    front = harbour.front(port)
    wide = "".join(chr(ord(digit) - ord("0") + 0xFF10) for digit in str(port)).encode().decode("latin-1")
    text = host.format(port=port, sandbox=harbour.sandbox, wide=wide)
    async with canary(sock, front.listening()) as bird:
        head = f"GET / HTTP/1.1\r\nHost: {text}\r\n\r\n".encode("latin-1")
        reply = await plain(front, head)
        # Hosts that mean this server itself lead to its control plane, which has no such page.
        assert reply.status in (400, 404, 421), text
        assert bird.came == 0


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "//127.0.0.1:{port}/",
        "/@127.0.0.1:{port}/", "/\\127.0.0.1:{port}/", "/http://127.0.0.1:{port}/",
        "/../../127.0.0.1:{port}/",
        "/%2e%2e/%2e%2e/proxy/cl-other/{port}/", "/proxy/{sandbox}/{port}/", "/?url=http://127.0.0.1:{port}/",
    ],
)  # fmt: skip
async def test_a_target_leads_nowhere_but_to_the_application(harbour: Harbour, target: str) -> None:
    seen: list[bytes] = []

    async def app(peer: Peer) -> None:
        seen.append((await peer.request()).split(b" ")[1])
        await peer.reply(b"inside")

    sock = socket.create_server(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    text = target.format(port=port, sandbox=harbour.sandbox)
    front = harbour.front()
    async with canary(sock, harbour.front(port).listening()) as bird, front.serving(app):
        reply = await plain(front, request(text, front.host("plain")))
        if text.startswith("http:"):  # another authority than Host's
            assert reply.status in (400, 421) and not seen
        else:
            assert reply.body == b"inside" and seen == [text.encode()]
        assert bird.came == 0


async def test_where_an_application_points_its_visitor_nobody_goes_for_him(harbour: Harbour) -> None:
    sock = socket.create_server(("0.0.0.0", 0))
    location = f"http://127.0.0.1:{sock.getsockname()[1]}/"

    async def app(peer: Peer) -> None:
        await peer.request()
        fields = (f"Location: {location}", f"X-Accel-Redirect: {location}", "X-Sendfile: /etc/passwd")
        await peer.reply(b"that way", *map(str.encode, fields), status=b"302 Found")

    front = harbour.front()
    async with canary(sock) as bird, front.serving(app):
        reply = await plain(front, request("/", front.host("plain")))
        assert (reply.status, reply.get("location"), reply.body) == (302, location, b"that way")
        assert bird.came == 0


def listed(api: SandboxApi, sandbox: str) -> list[int]:
    """Ports that something in a sandbox listens on."""
    return [each["port"] for each in api.ask("GET", f"/sandboxes/{sandbox}/ports")["ports"]]


async def test_without_isolation_only_what_the_sandbox_itself_listens_on_is_its_port(tmp_path: Path) -> None:
    """Where sandboxes share the machine's network, a port of its loopback may be anybody's."""
    quick = {"host_port_retry_seconds": 0.1}
    with hosted(tmp_path / ".wellhead", runtime="process", settings=quick) as edge, SandboxApi(edge) as api:
        mine, other = api.create(), api.create()
        ours = socket.create_server(("127.0.0.1", 0))
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        program = {"argv": ["python3", "-c", SERVE.format(port)], "background": True}
        api.ask("POST", f"/sandboxes/{mine}/exec", 202, json=program)

        async def status(sandbox: str, port: int) -> int:
            front = Front(edge, f"{port}-{sandbox}.localhost", port)
            return (await plain(front, request("/", front.host("plain")))).status

        await asyncio.to_thread(eventually, lambda: port in listed(api, mine), 10)
        assert await status(mine, port) == 200
        assert await status(other, port) == 502
        async with canary(ours) as bird:
            for sandbox in (mine, other):
                for closed in (ours.getsockname()[1], edge.https, edge.http):
                    assert await status(sandbox, closed) == 502
            assert bird.came == 0
