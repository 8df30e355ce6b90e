"""The HTTP clients that people have, each on the same errand through the tunnel."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.kit.aiohttp_visitor import application
from tests.kit.http_clients import BODY, CLIENTS
from tests.kit.outsiders import KIT, Outsider
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120), pytest.mark.needs("unshare")]

TAKEN = f"{hashlib.sha256(BODY).hexdigest()} "
TEXT = "the same text again and again, " * 1000
LANDED = "landed"
ERRAND = {
    "length": TAKEN + "length",
    "chunked": TAKEN + "chunked",
    "expect": TAKEN + "length",
    "gzip": TEXT,
    "hops": LANDED,
    "away": LANDED,
}


async def take(request: web.Request) -> web.Response:
    """The hash of what came, and how its end was told."""
    sha = hashlib.sha256()
    async for block in request.content.iter_chunked(65_536):
        sha.update(block)
    framing = "chunked" if "Transfer-Encoding" in request.headers else "length"
    return web.Response(text=f"{sha.hexdigest()} {framing}")


async def packed(request: web.Request) -> web.Response:
    assert "gzip" in request.headers.get("Accept-Encoding", "")
    return web.Response(body=gzip.compress(TEXT.encode()), headers={"Content-Encoding": "gzip"})


async def hop(request: web.Request) -> web.Response:
    left = int(request.match_info["left"])
    if left:
        raise web.HTTPFound(f"/hop/{left - 1}")
    return web.Response(text=LANDED)


async def away(request: web.Request) -> web.Response:
    """A redirect as frameworks make it, by the public address."""
    public = f"{request.headers['X-Forwarded-Proto']}://{request.headers['X-Forwarded-Host']}"
    raise web.HTTPTemporaryRedirect(f"{public}/hop/0")


@pytest.fixture
async def visitor(house: House, tmp_path: Path) -> AsyncIterator[Outsider]:
    app = web.Application()
    app.add_routes(
        [
            web.put("/take", take),
            web.get("/gzip", packed),
            web.get(r"/hop/{left:\d+}", hop),
            web.get("/away", away),
        ]
    )
    (tmp_path / "body").write_bytes(BODY)
    async with application(app, house.port):
        yield Outsider(house.edge, house.agent, tmp_path)


@pytest.mark.parametrize("library", CLIENTS)
async def test_a_library_of_python_does_its_errand(
    visitor: Outsider, house: House, leg: str, library: str
) -> None:
    url = house.agent.url if leg == "tls" else house.agent.plain_url
    command = [sys.executable, str(KIT / "http_clients.py"), library, url]
    brought = json.loads(await asyncio.to_thread(visitor.run, *command))
    if library == "httpx-http2" and leg == "tls":
        # HTTP/2 tells no length of what is sent in pieces; what has one says so in either version.
        assert brought.pop("chunked").startswith(TAKEN)
    assert brought == {part: ERRAND[part] for part in brought} and "length" in brought


@pytest.mark.needs("node")
async def test_fetch_of_node_does_its_errand(visitor: Outsider, house: House) -> None:
    said = await asyncio.to_thread(visitor.run, "node", KIT / "fetch_client.mjs", house.agent.url)
    assert json.loads(said) == {part: text for part, text in ERRAND.items() if part != "expect"}


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_curl_does_its_errand(visitor: Outsider, house: House, version: str) -> None:
    async def curl(path: str, *flags: str) -> str:
        command = ["curl", "-sS", "--fail", "--compressed", "-L", version, *flags]
        return await asyncio.to_thread(visitor.run, *command, house.agent.url + path)

    upload = ("-X", "PUT", "--data-binary", "@body")
    assert await curl("/take", *upload, "-H", "Expect:") == TAKEN + "length"
    assert await curl("/take", *upload, "-H", "Expect: 100-continue") == TAKEN + "length"
    assert (await curl("/take", *upload, "-H", "Transfer-Encoding: chunked")).startswith(TAKEN)
    assert await curl("/gzip") == TEXT
    assert await curl("/hop/3") == await curl("/away") == LANDED
    twice = await curl("/hop/0", f"{house.agent.url}/hop/0", "-w", " %{num_connects} ")
    assert twice == f"{LANDED} 1 {LANDED} 0 "  # the second on the first one's connection


@pytest.mark.needs("wget")
async def test_wget_does_its_errand(visitor: Outsider, house: House) -> None:
    async def wget(path: str, *flags: str) -> str:
        command = ["wget", "-q", "-O", "-", "--compression=auto", f"--ca-certificate={house.edge.ca}", *flags]
        return await asyncio.to_thread(visitor.run, *command, house.agent.url + path)

    assert await wget("/take", "--method=PUT", "--body-file=body") == TAKEN + "length"
    assert await wget("/gzip") == TEXT
    assert await wget("/hop/3") == await wget("/away") == LANDED
    assert await wget("/hop/0", f"{house.agent.url}/hop/0") == LANDED * 2


@pytest.mark.needs("http")
async def test_httpie_does_its_errand(visitor: Outsider, house: House) -> None:
    async def httpie(method: str, path: str, *words: str) -> str:
        command = ["http", "--ignore-stdin", "--body", "--follow", f"--verify={house.edge.ca}", *words[:1]]
        return await asyncio.to_thread(
            visitor.run, *command, method, house.agent.url + path, *words[1:]
        )  # fmt: skip

    assert await httpie("PUT", "/take", "--check-status", "@body") == TAKEN + "length"
    assert await httpie("PUT", "/take", "--chunked", "@body") == TAKEN + "chunked"
    assert await httpie("PUT", "/take", "--check-status", "@body", "Expect:100-continue") == TAKEN + "length"
    assert await httpie("GET", "/gzip") == TEXT
    assert await httpie("GET", "/hop/3") == await httpie("GET", "/away") == LANDED


@pytest.mark.needs("hey")
async def test_hey_finds_every_reply_good(visitor: Outsider, house: House) -> None:
    for flags in ([], ["-disable-keepalive"], ["-h2"]):
        # It takes the name for TLS from Host, with the port if there is one.
        command = ["hey", "-n", "200", "-c", "10", "-host", house.hostname, *flags]
        said = await asyncio.to_thread(visitor.run, *command, f"{house.agent.url}/hop/0")
        assert re.findall(r"\[(\d+)\]\s+(\d+) responses", said) == [("200", "200")], said
