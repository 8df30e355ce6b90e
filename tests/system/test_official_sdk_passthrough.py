"""TLS that ends in the agent, by each official SDK and by our agent on both carriers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket

import httpx
import pytest
from cryptography import x509

from tests.kit.carrier_app import pattern
from tests.kit.carriers import Place
from tests.kit.certs import shown
from tests.kit.zones import NEEDED

pytestmark = NEEDED

CARRIED = {"tls_mode": "passthrough"}


def test_the_certificate_is_the_agents_own(place: Place) -> None:
    with (
        socket.create_connection((place.edge.address, place.edge.https), 10) as sock,
        place.edge.trust().wrap_socket(sock, server_hostname=place.hostname) as tls,
    ):
        leaf = shown(tls)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [place.hostname]
    assert not list(place.edge.data.rglob(f"{leaf.serial_number:x}*.key"))


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
async def test_a_visitor_is_answered_in_either_protocol(place: Place, http2: bool) -> None:
    async with httpx.AsyncClient(
        http1=not http2, http2=http2, verify=place.edge.trust(), trust_env=False, timeout=30,
        base_url=f"https://{place.edge.address}", headers={"Host": place.hostname},
    ) as client:  # fmt: skip
        extensions = {"sni_hostname": place.hostname}
        for size in (0, 100_000):
            reply = await client.post("/echo?x=1", content=pattern(size), extensions=extensions)
            assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            seen = json.loads(reply.content)
            assert (seen["target"], seen["sha256"]) == (
                "/echo?x=1",
                hashlib.sha256(pattern(size)).hexdigest(),
            )
        assert (await client.get("/bytes/1000000", extensions=extensions)).content == pattern(1_000_000)


async def test_many_visitors_at_once(place: Place) -> None:
    async def visit(number: int) -> None:
        reply = await place.ask(f"/bytes/{number * 1000}")
        assert reply.body == pattern(number * 1000)

    await asyncio.gather(*(visit(number) for number in range(20)))


async def test_a_websocket_runs_in_it(place: Place) -> None:
    async with place.conversing() as client, asyncio.timeout(20):
        for message in ("hi", pattern(100_000)):
            await client.send(message)
            assert await client.recv() == message
