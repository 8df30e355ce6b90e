from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from tests.kit.talk import Talk
from wellhead.net.plain import PlainPort
from wellhead.net.sockets import listen

BOTH_LOOPS = True


class Hall:
    """A plain port on loopback whose visitors meet an echo."""

    def __init__(self, max_descriptor: int = 0) -> None:
        self.talks: list[Talk] = []
        self.refused: list[str] = []
        listeners = listen("127.0.0.1", 0)
        self.port: int = listeners[0].getsockname()[1]
        self.plain = PlainPort(
            listeners, self._talk, max_descriptor=max_descriptor, on_refused=self.refused.append
        )
        self.plain.start()

    def _talk(self) -> Talk:
        self.talks.append(Talk(b"welcome\n", echo=True))
        return self.talks[-1]


@contextlib.contextmanager
def hall(max_descriptor: int = 0) -> Iterator[Hall]:
    place = Hall(max_descriptor)
    try:
        yield place
    finally:
        place.plain.stop()
        for talk in place.talks:
            if talk.connected:
                talk.transport.abort()


async def visit(port: int, host: str = "127.0.0.1") -> Talk:
    _, talk = await asyncio.get_running_loop().create_connection(Talk, host, port)
    return talk


async def end(*talks: Talk) -> None:
    for talk in talks:
        talk.transport.abort()
        await talk.until("lost")


def lowest_free() -> int:
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    return probe


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_gets_its_protocol_and_knows_its_peer(host: str) -> None:
    with hall() as place:
        talk = await visit(place.port, host)
        assert await talk.hear(1) == b"welcome\n"
        assert place.talks[0].transport.get_extra_info("peername")[0] == host
        await end(talk, *place.talks)


async def test_beyond_the_highest_descriptor_newcomers_wait_until_others_have_left() -> None:
    with hall(lowest_free() + 30) as place:
        crowd = [await visit(place.port) for _ in range(30)]
        async with asyncio.timeout(5):
            while not place.refused:  # noqa: ASYNC110  # a refusal tells nobody here
                await asyncio.sleep(0.01)
        assert place.refused == ["descriptors"]
        assert len(place.talks) < 30
        await end(*crowd[: len(place.talks)])
        for talk in crowd[len(place.talks) :]:
            async with asyncio.timeout(5):
                assert await talk.hear(1) == b"welcome\n"
        await end(*(talk for talk in crowd if talk.connected))


async def test_a_stopped_port_refuses_and_open_connections_go_on() -> None:
    with hall() as place:
        talk = await visit(place.port)
        await talk.hear(1)
        place.plain.stop()
        place.plain.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", place.port))
        talk.transport.write(b"still here\n")
        assert await talk.hear(19) == b"welcome\nstill here\n"
        await end(talk, *place.talks)
