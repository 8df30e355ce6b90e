"""Visitors who give up what they asked for, again and again, before a real server that counts it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.kit import programs
from tests.kit.h2_upstream import H2Peer, eventually, serving_h2
from tests.kit.pools import making_pools
from tests.kit.programs import Program
from tests.kit.upstreams import Visitor, envelope, visit
from wellhead.net.upstream_h2_link import MOST_RESETS
from wellhead.wire.streams import Reason

FLOOD = 3000  # Node hangs up on 1,000
AT_ONCE = 50  # requests of the flood beside one of the neighbour


@pytest.mark.needs("node")
@pytest.mark.timeout(120)
async def test_a_flood_of_resets_costs_its_neighbours_at_a_node_server_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "wellhead.agent")
    app = Path(programs.__file__).with_name("node_h2.mjs")
    with Program(["node", str(app)]) as node:
        port = int((await asyncio.to_thread(node.line, r"^port (\d+)$"))[1])
        async with making_pools("h2c") as make:
            pool = make(port)
            late = visit(pool, envelope("GET", "/late"))
            await late.until(lambda visitor: bool(visitor.body))
            given_up: list[Visitor] = []
            for _ in range(FLOOD // AT_ONCE):
                neighbour = visit(pool, envelope("POST", "/"), b"not to be asked twice")
                for each in given_up:  # the upstream has heard of them
                    each.stream.reset(Reason.CANCELLED)
                given_up = [visit(pool, envelope("GET", "/never")) for _ in range(AT_ONCE)]
                assert bytes((await neighbour.over()).body) == b"said", neighbour.reason
            await visit(pool, envelope("GET", "/now")).over()
            assert bytes((await late.over()).body) == b"half, and half", late.reason
    assert "upstream hangs up" not in caplog.text


async def test_a_connection_with_many_resets_takes_no_more_and_ends_when_its_requests_have() -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            if asked[":path"] != "/never":
                peer.reply(asked, b"%d" % len(peer.asked))

    async with making_pools("h2c") as make, serving_h2(upstream) as server:
        pool = make(server)
        await visit(pool, envelope("GET", "/")).over()
        staying = visit(pool, envelope("GET", "/never"))
        for _ in range(MOST_RESETS):
            visit(pool, envelope("GET", "/never")).stream.reset(Reason.CANCELLED)
        assert (await visit(pool, envelope("GET", "/")).over()).body == b"1"  # the first of its connection
        assert len(server.peers) == 2 and staying.reason is None
        staying.stream.reset(Reason.CANCELLED)
        await eventually(lambda: server.peers[0].goaway is not None)
