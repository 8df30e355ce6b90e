"""The streaming promise, kept for every way of answering, every version of HTTP, and both directions."""

from __future__ import annotations

import hashlib
import itertools
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.kit.programs import Edge, Program, environment, eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

WAYS = ("url", "asgi", "wsgi", "handler", "thread")
VERSIONS = ("HTTP/1.1", "HTTP/2")
PIECE = 65536
HELD_MAX = 16 * 1024 * 1024  # bytes on the way to a visitor who does not read: most are the kernel's
_numbers = itertools.count()


@dataclass(frozen=True)
class House:
    edge: Edge
    agents: Program


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("promise")
    with Edge(home / "edge") as edge:
        command = [sys.executable, "-m", "tests.kit.promise_agent"]
        command += [f"https://localhost:{edge.https}", edge.key, str(edge.ca), str(home / "state")]
        with Program(command, environment(home / "agents")) as agents:
            agents.line("^online$")
            yield House(edge, agents)


@dataclass(frozen=True)
class Visitor:
    """A visitor of one way in one version of HTTP."""

    client: httpx.Client
    beside: httpx.Client  # asks on a connection of its own
    key: str
    extensions: dict[str, str]

    def get(self, path: str) -> str:
        return self.beside.get(f"{path}?id={self.key}", extensions=self.extensions).text


def _client(house: House, hostname: str, *, http2: bool = False) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{house.edge.https}",
        headers={"Host": f"{hostname}:{house.edge.https}"},
        verify=house.edge.trust(),
        http1=not http2,
        http2=http2,
        trust_env=False,
        timeout=20,
    )


@pytest.fixture(params=[(way, version) for way in WAYS for version in VERSIONS], ids="-".join)
def visitor(request: pytest.FixtureRequest, house: House) -> Iterator[Visitor]:
    way, version = request.param
    hostname = f"way-{way}.localhost"
    with (
        _client(house, hostname, http2=version == "HTTP/2") as client,
        _client(house, hostname) as beside,
    ):
        yield Visitor(client, beside, f"k{next(_numbers)}", {"sni_hostname": hostname})


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", ["text/plain", "text/event-stream", "application/json", "image/png"])
def test_the_first_byte_is_through_before_the_second_is_made(visitor: Visitor, kind: str) -> None:
    with visitor.client.stream(
        "GET", f"/stream?id={visitor.key}&type={kind}", extensions=visitor.extensions
    ) as reply:
        assert reply.headers["content-type"].partition(";")[0] == kind
        body = reply.iter_raw()
        assert next(body) == b"one"
        assert visitor.get("/go") == "gone"
        assert b"".join(body) == b"two"


def test_the_first_byte_of_an_upload_is_answered_before_the_second_is_sent(house: House, way: str) -> None:
    """On a bare connection: clients of the usual kind send all before they read."""
    hostname = f"way-{way}.localhost"
    context = house.edge.trust()
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", house.edge.https), 20) as sock,
        context.wrap_socket(sock, server_hostname=hostname) as tls,
        tls.makefile("rb") as reply,
    ):
        head = f"POST /first?id=bare HTTP/1.1\r\nHost: {hostname}:{house.edge.https}\r\n"
        tls.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n1\r\nA\r\n".encode())
        assert reply.readline() == b"HTTP/1.1 200 OK\r\n"
        while reply.readline() != b"\r\n":
            pass
        assert reply.readline() == b"1\r\n" and reply.readline() == b"A\r\n"
        tls.sendall(b"1\r\nB\r\n0\r\n\r\n")
        assert reply.readline() == b"1\r\n" and reply.readline() == b"B\r\n"
        assert reply.readline() == b"0\r\n"


def test_an_upload_has_no_bound_and_arrives_as_it_was_sent(visitor: Visitor) -> None:
    pieces = [bytes([number]) * (1 << 20) for number in range(24)]
    reply = visitor.client.post(
        f"/slurp?id={visitor.key}", content=iter(pieces), extensions=visitor.extensions
    )
    assert reply.text == f"{24 << 20} {hashlib.sha256(b''.join(pieces)).hexdigest()}"


def test_a_visitor_who_does_not_read_stops_the_producer(visitor: Visitor) -> None:
    with visitor.client.stream("GET", f"/endless?id={visitor.key}", extensions=visitor.extensions) as reply:
        body = reply.iter_raw()
        next(body)
        stopped_at = _settled(lambda: int(visitor.get("/fact").split()[0]))
        assert stopped_at * PIECE <= HELD_MAX


def _settled(count: Callable[[], int]) -> int:
    """What a counter says when it has stood still for a while."""
    last = [-1, 0]

    def still() -> bool:
        now = count()
        last[1] = last[1] + 1 if now == last[0] else 0
        last[0] = now
        return last[1] >= 4

    eventually(still, 15)
    return last[0]


def test_a_visitor_who_leaves_ends_the_producer_within_a_second(visitor: Visitor) -> None:
    with visitor.client.stream("GET", f"/endless?id={visitor.key}", extensions=visitor.extensions) as reply:
        next(reply.iter_raw())
        visitor.client.close()  # of HTTP/2 the client resets no stream: it leaves with its connection
    assert eventually(lambda: visitor.get("/fact").endswith("ended"), 10)


def test_a_producer_that_dies_is_a_truncation_that_the_visitor_sees(visitor: Visitor) -> None:
    with (
        pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
        visitor.client.stream("GET", f"/die?id={visitor.key}", extensions=visitor.extensions) as reply,
    ):
        assert reply.status_code == 200
        list(reply.iter_raw())


def test_slow_visitors_cost_the_agent_bounded_memory(house: House) -> None:
    """Of each in-process way, and of the URL, a crowd that reads one piece and then nothing."""
    before, _ = house.agents.memory()
    clients, replies, bodies = [], [], []
    try:
        for way in WAYS:
            hostname = f"way-{way}.localhost"
            client = _client(house, hostname)
            clients.append(client)
            for number in range(8):
                request = client.build_request(
                    "GET", f"/endless?id=slow-{way}-{number}", extensions={"sni_hostname": hostname}
                )
                reply = client.send(request, stream=True)
                bodies.append(reply.iter_raw())  # kept: without it the client hangs up
                next(bodies[-1])
                replies.append(reply)
        after, _ = house.agents.memory()
        assert after - before <= 40 * 2 * 1024 * 1024
    finally:
        for reply in replies:
            reply.close()
        for client in clients:
            client.close()
