"""HTTP of all shapes, by each official SDK and by our agent on both carriers: one table, one edge."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
from typing import Any

import pytest

from tests.kit.carrier_app import PLAIN, pattern
from tests.kit.carriers import Place
from tests.kit.visitors import Reply, request, visiting
from tests.kit.zones import NEEDED

pytestmark = NEEDED

WIDE = {"max_field_bytes": 61_000, "max_head_bytes": 61_440, "max_fields": 400}
"""Heads that a server lets in which is told to, and which an SDK would not survive."""
CARRIED = {"settings": WIDE}


def came(reply: Reply) -> dict[str, Any]:
    """What the app saw."""
    assert reply.status == 200, (reply.status, reply.body[:300])
    seen: dict[str, Any] = json.loads(reply.body)
    return seen


def values(seen: dict[str, Any], name: str) -> list[str]:
    return [text for key, text in seen["fields"] if key.lower() == name]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-ANY"])
async def test_any_method_passes(place: Place, method: str) -> None:
    assert came(await place.ask("/echo", method=method))["method"] == method


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 2 << 20])
async def test_a_body_of_any_size_goes_up_whole(place: Place, size: int) -> None:
    body = pattern(size)
    seen = came(await place.ask("/echo", method="POST", body=body))
    assert (seen["length"], seen["sha256"]) == (size, hashlib.sha256(body).hexdigest())


async def test_a_body_of_unknown_length_goes_up_whole(place: Place) -> None:
    async with visiting(place.edge, place.hostname) as visitor:
        head = request("/echo", place.host, "Transfer-Encoding: chunked", method="POST")
        await visitor.send(head, b"5\r\nhello\r\n", b"6;ext=1\r\n world\r\n", b"0\r\n\r\n")
        seen = came(await visitor.reply())
    assert seen["sha256"] == hashlib.sha256(b"hello world").hexdigest()


@pytest.mark.parametrize("size", [0, 1, 65_536, 3 << 20])
async def test_a_body_of_any_size_comes_down_whole(place: Place, size: int) -> None:
    reply = await place.ask(f"/bytes/{size}")
    assert (reply.status, reply.get("content-length")) == (200, str(size))
    assert reply.body == pattern(size)


async def test_a_target_arrives_byte_by_byte(place: Place) -> None:
    target = "/echo//a%20b/;c=d/?x=%00&y=%2F&z=a+b&&=%e9"
    assert came(await place.ask(target))["target"] == target


@pytest.mark.parametrize("target", ["/echo/a%2Fb", "/echo/%2e%2e/b"])
async def test_a_path_that_could_lead_elsewhere_is_the_agents_to_refuse(place: Place, target: str) -> None:
    reply = await place.ask(target)
    if place.driver.strict_paths:
        assert reply.status == 400
        assert not [name for name, _ in reply.fields if name.startswith("inkbox-h-")]
    else:
        assert came(reply)["target"] == target


async def test_forwarding_fields_are_of_this_request(place: Place) -> None:
    spoofed = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: gopher")
    seen = came(await place.ask("/echo", *spoofed))
    assert values(seen, "x-forwarded-proto") == ["https"]
    assert values(seen, "x-forwarded-host") in ([place.hostname], [place.host])
    assert all(text.startswith("127.") for text in values(seen, "x-forwarded-for"))
    assert len(values(seen, "x-forwarded-for")) == 1


async def test_hop_by_hop_fields_stay_where_they_are(place: Place) -> None:
    told = ("Connection: X-Nominated", "X-Nominated: 1", "Keep-Alive: timeout=5", "X-Mine: 1")
    names = {name.lower() for name, _ in came(await place.ask("/echo", *told))["fields"]}
    assert "x-mine" in names and not names & {"x-nominated", "keep-alive", "upgrade"}


async def test_head_says_what_get_would_and_brings_no_body(place: Place) -> None:
    async with visiting(place.edge, place.hostname) as visitor:
        for _ in range(2):  # the second proves that no byte of a body came with the first
            reply = await visitor.get("/bytes/1234", place.host, method="HEAD")
            assert reply.status == 200
            assert reply.get("content-length") == ("1234" if place.driver.head_length else None)


@pytest.mark.parametrize("status", [204, 304])
async def test_replies_without_a_body_keep_the_connection(place: Place, status: int) -> None:
    async with visiting(place.edge, place.hostname) as visitor:
        for _ in range(2):
            reply = await visitor.get(f"/status/{status}", place.host)
            assert (reply.status, reply.get("etag")) == (status, '"1"')
            assert reply.get("transfer-encoding") is None


@pytest.mark.parametrize("status", [201, 404, 418, 500, 503])
async def test_an_apps_own_status_is_the_visitors(place: Place, status: int) -> None:
    reply = await place.ask(f"/status/{status}")
    assert (reply.status, reply.get("etag"), reply.body) == (status, '"1"', b"")


async def test_a_redirect_is_the_visitors_to_follow(place: Place) -> None:
    reply = await place.ask("/redirect")
    assert (reply.status, reply.get("location")) == (302, "https://elsewhere.example/a?b=c")


@pytest.mark.parametrize("offer", [(), ("Accept-Encoding: gzip, br",), ("Accept-Encoding: identity",)])
async def test_a_compressed_reply_says_what_it_is(place: Place, offer: tuple[str, ...]) -> None:
    reply = await place.ask("/gzip", *offer)
    assert reply.status == 200
    body = gzip.decompress(reply.body) if reply.get("content-encoding") == "gzip" else reply.body
    assert body == PLAIN


async def test_two_cookies_are_two_fields(place: Place) -> None:
    cookies = (await place.ask("/cookies")).all("set-cookie")
    assert cookies == ["sid=abc; Path=/", "theme=dark; Path=/"]


async def test_one_visitors_cookies_are_not_another_visitors(place: Place) -> None:
    assert (await place.ask("/cookies")).status == 200
    assert not any(values(came(await place.ask("/echo")), "cookie"))
    assert values(came(await place.ask("/echo", "Cookie: a=1; b=2")), "cookie") == ["a=1; b=2"]


async def test_a_field_that_is_no_utf8_harms_nobody(place: Place) -> None:
    seen = came(await place.ask("/echo", "X-Name: Zo\xeb", "X-Other: plain"))
    assert values(seen, "x-other") == ["plain"]
    assert values(seen, "x-name") == (["Zo\xeb"] if place.driver.latin1 else [])
    assert (await place.ask("/latin1")).status in (200, 502)
    assert (await place.ask()).status == 200
    assert unharmed(place)


@pytest.mark.parametrize(
    "lines",
    [
        ["Cookie: a=1", "Cookie:"], ["Cookie: Zo\xeb;  a=1"], ["Cookie: a=1 ; Zo\xeb"],
        ["Cookie: a=1", "X-Same: one", "X-Same:", *(["X-Same: more"] * 130)],
    ],
)  # fmt: skip
async def test_blanks_that_are_left_where_fields_are_put_together_harm_nobody(
    place: Place, lines: list[str]
) -> None:
    assert "a=1" in values(came(await place.ask("/echo", *lines)), "cookie")[0]
    assert unharmed(place)


@pytest.mark.parametrize("size", [50_000, 60_500])
async def test_a_head_that_an_agent_could_not_take_is_431(place: Place, size: int) -> None:
    reply = await place.ask("/echo", f"X-Long: {'a' * size}")
    too_long = place.driver.carrier == "h2" and size > 60_000
    assert reply.status == (431 if too_long else 200) or (place.driver.sdk is None and reply.status == 431)
    assert (await place.ask()).status == 200
    assert unharmed(place)


async def test_many_fields_arrive_or_are_431(place: Place) -> None:
    assert len(came(await place.ask("/echo", *(f"X-{number}: v" for number in range(80))))["fields"]) >= 80
    reply = await place.ask("/echo", *(f"X-{number}: v" for number in range(150)))
    assert reply.status == (431 if place.driver.carrier == "h2" else 200)
    assert unharmed(place)


async def test_many_fields_come_back(place: Place) -> None:
    reply = await place.ask("/fields/60")
    assert reply.status == 200 and len([name for name, _ in reply.fields if name.startswith("x-field")]) == 60


async def test_a_body_beyond_the_carriers_bound_is_413_at_once(place: Place) -> None:
    if (bound := place.driver.bodies) is None:
        seen = came(await place.ask("/echo", method="POST", body=pattern((32 << 20) + 1)))
        assert seen["length"] == (32 << 20) + 1
        return
    async with visiting(place.edge, place.hostname) as visitor:
        fields = (f"Content-Length: {bound + 1}",)
        await visitor.send(request("/echo", place.host, *fields, method="POST"))
        assert (await visitor.reply()).status == 413
    assert (await place.ask()).status == 200


async def test_a_reply_beyond_what_an_agent_holds_is_502(place: Place) -> None:
    size = (32 << 20) + 1
    reply = await place.ask(f"/bytes/{size}")
    if place.driver.sdk is None:
        assert len(reply.body) == size
    else:
        assert reply.status == 502
    assert (await place.ask()).status == 200


async def test_a_reply_comes_while_it_is_made_where_the_carrier_can(place: Place) -> None:
    async with visiting(place.edge, place.hostname) as visitor:
        await visitor.send(request("/events/3", place.host))
        reply = await visitor.head()
        began = time.monotonic()
        async for chunk in visitor.chunks(reply) if reply.get("transfer-encoding") else _rest(visitor, reply):
            reply.body += chunk
        took = time.monotonic() - began
    assert reply.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert (took > 0.3) == place.driver.streams


async def _rest(visitor: Any, reply: Reply) -> Any:
    yield await visitor.reader.readexactly(int(reply.get("content-length") or 0))


async def test_an_app_that_breaks_is_5xx_and_the_next_request_is_well(place: Place) -> None:
    assert (await place.ask("/raise")).status in (500, 502)
    assert (await place.ask()).status == 200


async def test_many_at_once_are_answered_each_its_own(place: Place) -> None:
    async def one(number: int) -> None:
        body = pattern(number * 37)
        seen = came(await place.ask(f"/wait/{number % 5}?n={number}", method="POST", body=body))
        assert seen["target"].endswith(f"n={number}") and seen["length"] == len(body)

    await asyncio.gather(*(one(number) for number in range(100)))


async def test_a_visitor_that_leaves_in_the_midst_harms_nobody(place: Place) -> None:
    async with visiting(place.edge, place.hostname) as visitor:
        await visitor.send(request("/echo", place.host, "Content-Length: 100000", method="POST"), b"x" * 500)
        visitor.reset()
    async with visiting(place.edge, place.hostname) as visitor:
        await visitor.send(request("/wait/200", place.host))
        visitor.reset()
    for _ in range(3):
        assert (await place.ask()).status == 200
    assert unharmed(place)


def unharmed(place: Place) -> bool:
    """The agent's connection was not lost: it never had to come back."""
    return "reconnecting" not in place.agent.text
