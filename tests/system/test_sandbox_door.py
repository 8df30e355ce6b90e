"""The door to sandboxes on a real server with a real host: keys, origins, long output, keystrokes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import statistics
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import websockets

from tests.kit.hosts import HostProgram, SandboxApi
from tests.kit.programs import Edge, eventually
from tests.system.test_control_process import away
from wellhead.model.sandboxes import new_sandbox_id

REPLY_SECONDS = 2  # shorter than a command of these tests
ROUTES = [
    ("POST", "/exec"), ("GET", "/exec/stream"), ("GET", "/processes"), ("DELETE", "/processes/1"),
    ("GET", "/processes/1/stream"), ("GET", "/pty"), ("POST", "/files/read"), ("POST", "/files/stream/write"),
    ("POST", "/files/list"), ("GET", "/metrics"), ("GET", "/ports"), ("GET", "/logs"),
]  # fmt: skip
SECONDS = 30.0


@dataclass
class Place:
    edge: Edge
    api: SandboxApi
    host: HostProgram
    sandbox: str

    def url(self, rest: str, sandbox: str = "", scheme: str = "https") -> str:
        base = self.edge.api.replace("https", scheme)
        return f"{base}/sandboxes/{sandbox or self.sandbox}{rest}"

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.edge.trust(), timeout=SECONDS, trust_env=False, **options)

    @property
    def key(self) -> dict[str, str]:
        return {"X-API-Key": self.edge.key}

    @contextlib.asynccontextmanager
    async def socket(self, rest: str, start: dict[str, Any]) -> AsyncIterator[websockets.ClientConnection]:
        """A conversation in our own words that has begun."""
        words = "wellhead.terminal.1" if rest == "/pty" else "wellhead.exec.1"
        async with (
            asyncio.timeout(2 * SECONDS),
            websockets.connect(
                self.url(rest, scheme="wss"), ssl=self.edge.trust(), additional_headers=self.key,
                subprotocols=[websockets.Subprotocol(words)], compression=None, max_size=None,
                close_timeout=0.2,
            ) as socket,
        ):  # fmt: skip
            await socket.send(json.dumps({"type": "start", **start}))
            assert json.loads(await socket.recv())["type"] == "started"
            yield socket


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("door")
    with Edge(home / "home", settings={"reply_seconds": REPLY_SECONDS}) as edge, SandboxApi(edge) as api:
        with HostProgram(edge, home / "host", api.token(), settings={"host_keep_sandboxes": False}) as host:
            eventually(lambda: api.host(host.host)["status"] == "online", SECONDS)
            yield Place(edge, api, host, api.create())
            host.stop()  # its sandboxes end with it, if it is let


def code(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    return answer.status_code, error["code"]


async def test_every_route_asks_for_a_key_of_the_whole_organization(place: Place) -> None:
    """M1. Whoever has none learns neither which sandboxes there are nor which routes."""
    made = place.api.ask("POST", "/tunnels/", 201, json={"tunnel_name": "mine"})
    scopes = [f"tunnel:{made['tunnel']['id']}"]
    limited, revoked = (
        place.api.ask("POST", "/keys", 201, json={"label": label, "scopes": each})
        for label, each in (("l", scopes), ("r", ["admin"]))
    )
    place.api.ask("DELETE", f"/keys/{revoked['record']['id']}")
    nobody = {
        "none": {},
        "malformed": {"X-API-Key": "wh_x"},
        "revoked": {"X-API-Key": revoked["api_key"]},
        "a tunnel's secret": {"Authorization": f"Bearer {made['connect_secret']}"},
        "basic": {"Authorization": f"Basic {place.edge.key}"},
        "a cookie": {"Cookie": f"X-API-Key={place.edge.key}"},
    }
    async with place.client() as client:
        for method, rest in ROUTES:
            for who, headers in nobody.items():
                for sandbox in (place.sandbox, new_sandbox_id(), "nonsense"):
                    answer = await client.request(method, place.url(rest, sandbox), headers=headers)
                    assert code(answer) == (401, "unauthorized"), (method, rest, who)
            answer = await client.request(method, place.url(rest), headers={"X-API-Key": limited["api_key"]})
            assert code(answer) == (403, "forbidden"), (method, rest)
            for sandbox, told in ((new_sandbox_id(), (404, "not_found")), ("x", (400, "invalid_request"))):
                answer = await client.request(method, place.url(rest, sandbox), headers=place.key)
                assert code(answer) == told, (method, rest)


async def test_a_page_elsewhere_opens_no_socket_and_no_key_is_no_upgrade(place: Place) -> None:
    """E9."""
    own = f"https://localhost:{place.edge.https}"
    for rest in ("/pty", "/exec/stream", "/processes/1/stream", "/logs?selector=1"):
        for origin, headers, status in (
            ("https://evil.example", place.key, 403),
            ("null", place.key, 403),
            (f"https://my-agent.localhost:{place.edge.https}", place.key, 403),
            (own, {}, 401),
            (None, {}, 401),
        ):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with websockets.connect(
                    place.url(rest, scheme="wss"), ssl=place.edge.trust(), additional_headers=headers,
                    origin=None if origin is None else websockets.Origin(origin),
                ):  # fmt: skip
                    pass
            assert refused.value.response.status_code == status, (rest, origin)
    async with websockets.connect(
        place.url("/pty", scheme="wss"), ssl=place.edge.trust(), additional_headers=place.key,
        origin=websockets.Origin(own),
    ):  # fmt: skip
        pass


@pytest.mark.parametrize("http2", [False, True])
async def test_a_command_that_is_silent_for_longer_than_replies_may_be_is_answered(
    place: Place, http2: bool
) -> None:
    body = {"argv": ["sh", "-c", f"sleep {REPLY_SECONDS + 1}; echo done"], "timeout_seconds": SECONDS}
    async with place.client(http2=http2) as client:
        answer = await client.post(place.url("/exec"), json=body, headers=place.key)
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert (answer.status_code, answer.json()["stdout"]) == (200, "done\n")


async def test_long_output_arrives_whole(place: Place) -> None:
    size = 30_000_000
    command = ["sh", "-c", f"head -c {size} /dev/urandom | tee /tmp/wh-{place.sandbox} | cat; exit 7"]
    told, received = hashlib.sha256(), 0
    async with place.socket("/exec/stream", {"argv": command}) as socket:
        while isinstance(message := await socket.recv(), bytes):
            told.update(message[1:])
            received += len(message) - 1
        assert json.loads(message)["exit_code"] == 7 and received == size
    digest = place.api.run(place.sandbox, "sha256sum", f"/tmp/wh-{place.sandbox}").split()[0]
    place.api.run(place.sandbox, "rm", f"/tmp/wh-{place.sandbox}")
    assert digest == told.hexdigest()


async def test_keystrokes_are_not_held_up_by_output_that_floods(place: Place) -> None:
    """J11, with one reader that takes all it gets and one that takes nothing."""
    flood: dict[str, Any] = {"argv": ["sh", "-c", "yes 0123456789"]}

    async def drain(socket: websockets.ClientConnection) -> None:
        async for _ in socket:
            pass

    async with (
        place.socket("/exec/stream", flood) as fast,
        place.socket("/exec/stream", flood),
        place.socket("/pty", {"cmd": "cat", "cols": 80, "rows": 24}) as terminal,
    ):
        reading = asyncio.ensure_future(drain(fast))
        waits = []
        for number in range(30):
            began = asyncio.get_running_loop().time()
            await terminal.send(f"key{number}\n".encode())
            seen = b""
            while f"key{number}".encode() not in seen:
                message = await terminal.recv()
                seen += message[8:] if isinstance(message, bytes) else b""
            waits.append(asyncio.get_running_loop().time() - began)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading})
    assert statistics.median(waits) < 1.0, waits


async def test_what_is_known_is_served_while_the_control_plane_is_away(place: Place) -> None:
    async with place.client() as client:
        with away(place.edge):
            ran = await client.post(place.url("/exec"), json={"argv": ["echo", "on"]}, headers=place.key)
            assert (ran.status_code, ran.json()["stdout"]) == (200, "on\n")
            for url, headers in (
                (place.url("/exec", new_sandbox_id()), place.key),
                (place.url("/exec"), {"X-API-Key": "wh_perhaps"}),
            ):
                answer = await client.post(url, json={}, headers=headers)
                assert code(answer) == (503, "host_unavailable") and answer.headers["retry-after"]
        eventually(lambda: place.api.status(place.sandbox) == "running", SECONDS)
        assert place.api.run(place.sandbox, "echo", "again") == "again\n"


async def test_no_key_reaches_a_sandbox_or_a_log(place: Place) -> None:
    secret = {"Authorization": f"Bearer {place.edge.key}", "Cookie": f"key={place.edge.key}"}
    async with place.client() as client:
        answer = await client.post(place.url("/exec"), json={"argv": ["env"]}, headers=secret)
        assert answer.status_code == 200 and place.edge.key not in answer.text
    assert place.edge.key not in place.host.text
    assert place.edge.text.count(place.edge.key) == 1, "where it was made"
    place.edge.line(f"access sandbox={place.sandbox} .*status=200", SECONDS)
