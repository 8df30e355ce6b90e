"""The carriers that an agent offers, against a whole server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

import wellhead
from tests.agent.conftest import House, visit
from tests.kit.small_apps import TextApp, served
from tests.kit.upstreams import PATIENCE
from wellhead import Status
from wellhead.cli.exit import ExitCode, exit_code
from wellhead.errors import InputError, Superseded
from wellhead.model.names import suggest


class _App(TextApp):
    protocol_version = "HTTP/1.1"

    def text(self) -> str:
        return f"{self.path} {self.headers['X-Forwarded-Host']}"


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    with served(_App, ThreadingHTTPServer) as port:
        yield port


@pytest.mark.parametrize("carrier", ["auto", "mux", "h2"])
async def test_a_tunnel_is_answered_for_on_each_carrier(
    house: House, app: int, tmp_path: Path, carrier: str
) -> None:
    name = suggest()
    async with await wellhead.connect_async(app, name=name, carrier=carrier, **house.options(tmp_path)) as it:
        assert it.status is Status.CONNECTED
        for number in range(3):
            reply = await asyncio.to_thread(visit, it.public_url, house, f"/{number}")
            assert (reply.status_code, reply.text.split()[0]) == (200, f"/{number}")
        assert name in reply.text


async def test_a_second_agent_on_the_http2_carrier_takes_the_tunnel(
    house: House, app: int, tmp_path: Path
) -> None:
    name = suggest()
    first = await wellhead.connect_async(app, name=name, carrier="h2", **house.options(tmp_path))
    async with await wellhead.connect_async(
        app, name=name, carrier="h2", **house.options(tmp_path)
    ) as second:
        with pytest.raises(Superseded) as caught:
            await asyncio.wait_for(first.serve_forever(), PATIENCE)
        assert (first.status, exit_code(caught.value)) == (Status.SUPERSEDED, ExitCode.REFUSED)
        reply = await asyncio.to_thread(visit, second.public_url, house)
        assert reply.status_code == 200
    await first.aclose()


async def test_a_carrier_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(InputError, match="carrier must be auto, mux or h2, not 'h3'"):
        await wellhead.connect_async(8000, carrier="h3")
