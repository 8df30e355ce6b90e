"""The cases of the Autobahn test suite, straight to an echo server and through the tunnel."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.kit.aiohttp_visitor import application
from tests.kit.outsiders import Outsider
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.needs("unshare")]

RULES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]  # framing, fragments, UTF-8, closing
SIZES = ["9.*"]  # up to 16 MiB, in fragments down to 64 bytes and in writes down to 64
GROUPS = [f"12.{number}" for number in range(1, 6)] + [f"13.{number}" for number in range(1, 8)]
COMPRESSION = [f"{group}.{number}" for group in GROUPS for number in (1, 3)]  # a thousand of 16 and 256 B
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


def echoing() -> web.Application:
    app = web.Application()
    app.router.add_get("/", echo)
    return app


def passed(visitor: Outsider, url: str, cases: list[str]) -> dict[str, bool]:
    """Whether the server keeps the rule of each case, by the case's number."""
    report = visitor.directory / "report"
    visitor.run(
        *(Path(sys.executable).with_name("kosoku"), "-p", "4", "-o", report),
        *(word for case in cases for word in ("-i", case)),
        url.replace("http", "ws", 1),
        seconds=100,
        fine=False,
    )
    (results,) = json.loads((report / "index.json").read_text()).values()
    return {case: {result["behavior"], result["behaviorClose"]} <= GOOD for case, result in results.items()}


@pytest.mark.parametrize(
    ("cases", "least"), [(RULES, 240), (SIZES, 50), (COMPRESSION, 20)], ids=["rules", "sizes", "compression"]
)
async def test_the_tunnel_keeps_every_rule_that_its_upstream_keeps(
    house: House, tmp_path: Path, cases: list[str], least: int
) -> None:
    visitor = Outsider(house.edge, house.agent, tmp_path)
    async with application(echoing(), house.port):
        straight = await asyncio.to_thread(passed, visitor, f"http://127.0.0.1:{house.port}", cases)
        through = await asyncio.to_thread(passed, visitor, house.agent.url, cases)
    assert sum(straight.values()) >= least
    assert through.items() == straight.items()
