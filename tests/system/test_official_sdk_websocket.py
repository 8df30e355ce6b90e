"""WebSockets to a URL and to an app, by each official SDK and by our agent on both carriers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.kit.carrier_app import pattern
from tests.kit.carriers import Place
from tests.kit.zones import NEEDED

pytestmark = NEEDED

SECONDS = 20.0


async def echoed(client: ClientConnection, message: str | bytes) -> None:
    async with asyncio.timeout(SECONDS):
        await client.send(message)
        assert await client.recv() == message


async def ended(client: ClientConnection) -> tuple[int, str]:
    """The code and the reason that the visitor was given; 1006 where it was given none."""
    async with asyncio.timeout(SECONDS):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.recv()
    told = closed.value.rcvd
    return (told.code, told.reason) if told is not None else (1006, "")


async def soon(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await true():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)


def text(count: int) -> str:
    return "0123456789abcdef" * (count // 16) + "x" * (count % 16)


async def test_messages_of_both_kinds_come_back_as_they_were(place: Place) -> None:
    async with place.conversing() as client:
        for message in (
            "hi",
            b"\x00\x01\xfe\xff",
            "",
            b"",
            'grüße \U0001f600 \\"\n',
            text(30_000),
            pattern(24_000),
        ):
            await echoed(client, message)


async def test_a_message_in_pieces_arrives_whole(place: Place) -> None:
    async with place.conversing() as client, asyncio.timeout(SECONDS):
        await client.send(iter(["one, ", "two, ", "three"]))
        assert await client.recv() == "one, two, three"


async def test_a_ping_is_answered(place: Place) -> None:
    async with place.conversing() as client, asyncio.timeout(SECONDS):
        await (await client.ping(b"there?"))
        await echoed(client, "and more")


@pytest.mark.parametrize("offered", [[], ["superchat", "chat"], ["other"]])
async def test_the_app_chooses_the_subprotocol(place: Place, offered: list[str]) -> None:
    protocols = [Subprotocol(each) for each in offered]
    async with place.conversing(subprotocols=protocols or None) as client:
        assert client.subprotocol == ("chat" if "chat" in offered else None)
        assert client.response is not None
        assert client.response.headers.get("x-app") == "up"
        assert "sec-websocket-extensions" not in client.response.headers


async def test_an_app_that_declines_is_403(place: Place) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with place.conversing("/ws/deny"):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4001])
async def test_the_apps_close_is_the_visitors(place: Place, code: int) -> None:
    async with place.conversing(f"/ws/close/{code}") as client:
        assert await ended(client) == (code, "bye" if place.driver.reasons else "")


@pytest.mark.parametrize("code", [1000, 3001, 4002])
async def test_the_visitors_close_is_the_apps(place: Place, code: int) -> None:
    async with place.conversing() as client:
        await echoed(client, "hi")
        await client.close(code, "enough")

    async def left() -> bool:
        return code in json.loads((await place.ask("/left")).body)

    await soon(left)


async def test_an_app_that_breaks_ends_the_visitors_conversation(place: Place) -> None:
    async with place.conversing("/ws/raise") as client:
        # The SDKs' own app server says 1000 for it; a URL's server says nothing at all.
        told = 1000 if place.driver.inside else 1006 if place.driver.carrier == "mux" else 1011
        assert (await ended(client))[0] == told


@pytest.mark.parametrize("size", [65_536, 1 << 20])
async def test_a_large_message_comes_down(place: Place, size: int) -> None:
    async with place.conversing(f"/ws/push/{size}") as client, asyncio.timeout(SECONDS):
        assert await client.recv() == pattern(size)
        await echoed(client, "and more")


async def test_large_messages_on_several_bridges_at_once_do_not_hold_up_one_another(place: Place) -> None:
    """On purpose each nearly fills the window that all of them, and every request, have together."""

    async def converse(number: int) -> None:
        async with place.conversing() as client:
            for turn in range(5):
                await echoed(client, f"{number} {turn} " + text(60_000))
                await echoed(client, pattern(45_000 + number))

    async def ask(number: int) -> None:
        for _ in range(5):
            assert (await place.ask("/echo", method="POST", body=pattern(50_000 + number))).status == 200

    async with asyncio.timeout(2 * SECONDS):
        await asyncio.gather(
            *(converse(number) for number in range(4)), *(ask(number) for number in range(3))
        )


BOUNDS = [(text(64_000), text(66_000)), (pattern(48_000), pattern(50_000))]


@pytest.mark.parametrize(("most", "beyond"), BOUNDS, ids=["text", "binary"])
async def test_a_message_that_the_carrier_cannot_bring_is_1009_and_harms_no_other(
    place: Place, most: str | bytes, beyond: str | bytes
) -> None:
    async with place.conversing() as other, place.conversing() as client:
        await echoed(other, "before")
        await echoed(client, most)
        if place.driver.long_messages:
            await echoed(client, beyond)
            return
        await client.send(beyond)
        assert (await ended(client))[0] == 1009
        await echoed(other, most)
    assert (await place.ask("/echo", method="POST", body=pattern(60_000))).status == 200


async def test_what_is_no_utf8_is_1007(place: Place) -> None:
    async with place.conversing() as client:
        client.transport.write(b"\x81\x82\x00\x00\x00\x00\xff\xfe")
        # Our agent passes frames on as they are: there the app's own server says so.
        assert (await ended(client))[0] == 1007


async def test_many_conversations_at_once(place: Place) -> None:
    async def converse(number: int) -> None:
        async with place.conversing() as client:
            for turn in range(10):
                await echoed(client, f"{number} {turn}")

    await asyncio.gather(*(converse(number) for number in range(20)))
