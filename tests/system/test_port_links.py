"""Who sees a port of a real sandbox: what is said over REST holds at the edge when it is answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.kit.hosted import NEEDED, hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge, eventually
from tests.kit.visitors import Reply, ask

pytestmark = [*NEEDED, pytest.mark.timeout(180)]

PORT, OTHER = 3000, 3001
VOID_SECONDS = 1.0  # in which nothing more comes through what was revoked (D5)
LATE_SECONDS = 30.0
NAVIGATION = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Accept: text/html")
ALLOWED, NO_KEY = 200, 401


@dataclass
class Place:
    """A server with a host, and a sandbox with a server at PORT and one at OTHER, private at first."""

    edge: Edge
    api: SandboxApi
    sandbox: str

    async def ask(self, target: str = "/", *fields: str, port: int = PORT) -> Reply:
        return await ask(self.edge, f"{port}-{self.sandbox}.localhost", target, *fields)

    async def statuses(self, *fields: str) -> tuple[int, int]:
        """Of a request for each port."""
        return (await self.ask("/", *fields)).status, (await self.ask("/", *fields, port=OTHER)).status

    def change(self, **fields: object) -> None:
        self.api.ask("PATCH", f"/sandboxes/{self.sandbox}", json=fields)

    def link(self, **asked: object) -> str:
        """The target of a new one."""
        made = urlsplit(self.api.ask("POST", f"/sandboxes/{self.sandbox}/links", 201, json=asked)["url"])
        assert made.netloc.endswith(f"-{self.sandbox}.localhost:{self.edge.https}")
        return f"{made.path}?{made.query}"

    def revoke(self) -> None:
        self.api.ask("DELETE", f"/sandboxes/{self.sandbox}/links", 204)

    async def cookie(self, link: str, port: int = PORT) -> str:
        """The field of the cookie that a browser has for a link."""
        reply = await self.ask(link, *NAVIGATION, port=port)
        assert reply.status == 303, reply
        return "Cookie: " + str(reply.get("set-cookie")).partition(";")[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = {"sandbox_visibility": "private", "log_level": "debug", "access_log": "stderr"}
    with hosted(tmp_path_factory.mktemp("links") / ".wellhead", settings=settings) as edge:
        with SandboxApi(edge) as api:
            made = Place(edge, api, api.create())
            for port in (PORT, OTHER):
                command = ["/usr/bin/python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
                body = {"argv": command, "cwd": "/tmp", "background": True}
                api.ask("POST", f"/sandboxes/{made.sandbox}/exec", 202, json=body)
            yield made


@pytest.fixture(autouse=True)
def private(place: Place) -> None:
    place.change(visibility="private", port_visibility={str(PORT): None, str(OTHER): None})


async def test_a_visibility_holds_from_its_answer_on_for_all_ports_and_for_one(place: Place) -> None:
    key = f"X-API-Key: {place.edge.key}"
    assert await place.statuses() == (NO_KEY, NO_KEY) and await place.statuses(key) == (ALLOWED, ALLOWED)
    for _ in range(5):
        place.change(visibility="public")
        assert await place.statuses() == (ALLOWED, ALLOWED)
        place.change(port_visibility={str(PORT): "team"})
        assert await place.statuses() == (NO_KEY, ALLOWED)
        place.change(visibility="private", port_visibility={str(PORT): "public"})
        assert await place.statuses() == (ALLOWED, NO_KEY)
        place.change(port_visibility={str(PORT): None})
        assert await place.statuses() == (NO_KEY, NO_KEY)


async def test_a_team_s_port_is_for_every_key_of_the_organization(place: Place) -> None:
    tunnel = place.api.ask("POST", "/tunnels", 201, json={"tunnel_name": "some-agent"})["tunnel"]["id"]
    scoped = {"label": "agent", "scopes": [f"tunnel:{tunnel}"]}
    key = f"X-API-Key: {place.api.ask('POST', '/keys', 201, json=scoped)['api_key']}"
    place.change(port_visibility={str(PORT): "team"})
    assert await place.statuses(key) == (ALLOWED, 403)


async def test_a_link_is_for_its_port_and_void_as_soon_as_links_are_revoked(place: Place) -> None:
    link, every = place.link(port=PORT), place.link()
    cookie = await place.cookie(link)
    assert (await place.ask(link)).status == ALLOWED, "of a program, which opens no page"
    assert await place.statuses(cookie) == (ALLOWED, NO_KEY)
    assert (await place.ask(link, port=OTHER)).status == NO_KEY
    whole = await place.cookie(every, port=OTHER)
    assert (await place.ask("/", whole, port=OTHER)).status == ALLOWED
    began = time.monotonic()
    place.revoke()
    for refused in (
        await place.ask("/", cookie),
        await place.ask(link),
        await place.ask(every),
        await place.ask("/", whole, port=OTHER),
    ):
        assert refused.status == NO_KEY
    assert time.monotonic() - began < VOID_SECONDS * 4, "on a machine that does much else"
    again = place.link(port=PORT)
    assert (await place.ask("/", await place.cookie(again))).status == ALLOWED


async def test_a_link_ends_by_itself(place: Place) -> None:
    link = place.link(port=PORT, expires_in=1)
    seen: set[int] = set()

    def over() -> bool:
        seen.add(asyncio.run(place.ask(link)).status)
        return NO_KEY in seen

    await asyncio.to_thread(eventually, over, LATE_SECONDS)
    assert seen <= {ALLOWED, NO_KEY}


async def test_links_outlive_a_control_plane_that_was_killed(place: Place) -> None:
    before = place.link(port=PORT)
    control = place.edge.control()
    control.kill()
    assert (await place.ask(before)).status == ALLOWED, "nobody asks the control plane"
    await asyncio.to_thread(eventually, lambda: place.edge.control().pid != control.pid, LATE_SECONDS)
    place.edge.line("control plane is back", LATE_SECONDS)
    assert (await place.ask(before)).status == ALLOWED
    after = place.link(port=PORT)
    assert (await place.ask(after)).status == ALLOWED


async def test_neither_a_link_nor_its_cookie_is_in_any_line_of_the_server(place: Place) -> None:
    mark = place.edge.mark()
    link = place.link(port=PORT)
    cookie = await place.cookie(link)
    reply = await place.ask(f"{link}&other=shown-{place.sandbox}", cookie)
    assert reply.status == ALLOWED
    place.edge.line(rf" access port={PORT}-.*shown-{place.sandbox}", LATE_SECONDS, after=mark)
    entries = json.dumps(place.api.ask("GET", "/audit"))
    for token in (link.partition("=")[2], cookie.partition("=")[2]):
        assert len(token) > 30
        for piece in (token, token[:24], token[-24:]):
            assert piece not in place.edge.text and piece not in entries
