"""Names, with name servers that a test holds in its hands."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from wellhead.errors import DialError
from wellhead.net.resolver import GOOD_SECONDS, MAX_REMEMBERED, Found, Resolver

BOTH_LOOPS = True
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NOBODY = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class NameServer:
    """Answers ``answer``, after ``open`` is set. ``asked`` are the names that came."""

    def __init__(self) -> None:
        self.answer: Found | Exception = found("192.0.2.1")
        self.open = threading.Event()
        self.open.set()
        self.asked: list[str] = []
        self.now = 0.0

    def lookup(self, name: str) -> Found:
        self.asked.append(name)
        assert self.open.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def resolver(self, **options: float) -> Resolver:
        options = {"patience_seconds": 0.1} | options
        return Resolver(self.lookup, clock=lambda: self.now + time.monotonic(), **options)  # type: ignore[arg-type]


def found(*addresses: str) -> Found:
    return [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
        for each in addresses
    ]


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.open.set()


async def test_families_take_turns(server: NameServer) -> None:
    server.answer = found("2001:db8::1", "2001:db8::2", "192.0.2.1")
    assert await server.resolver().addresses("edge.test") == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


async def test_what_is_asked_again_is_looked_up_again(server: NameServer) -> None:
    resolver = server.resolver()
    assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    server.answer = found("192.0.2.2")
    assert await resolver.addresses("edge.test") == ["192.0.2.2"]


async def test_a_dead_name_server_leaves_the_last_addresses_in_use(
    server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = server.resolver()
    await resolver.addresses("edge.test")
    server.answer = AGAIN
    for _ in range(3):
        assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    with pytest.raises(DialError, match="other.test: temporary failure"):
        await resolver.addresses("other.test")
    assert [record.levelname for record in caplog.records] == ["WARNING"], "told once, not for each dial"


async def test_a_slow_name_server_is_waited_for_once(server: NameServer) -> None:
    resolver = server.resolver()
    await resolver.addresses("edge.test")
    server.open.clear()
    began = time.monotonic()
    assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    assert time.monotonic() - began >= 0.09
    began = time.monotonic()
    for _ in range(10):
        assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    assert time.monotonic() - began < 0.09, "the same question still runs: nobody waits for it again"
    assert server.asked == ["edge.test"] * 2


async def test_its_late_answer_serves_the_next_dial(server: NameServer) -> None:
    resolver = server.resolver()
    await resolver.addresses("edge.test")
    server.open.clear()
    server.answer = found("192.0.2.9")
    assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    server.open.set()
    await _until_settled("edge.test")
    server.answer = AGAIN
    assert await resolver.addresses("edge.test") == ["192.0.2.9"]


async def test_a_name_that_is_gone_is_gone(server: NameServer) -> None:
    resolver = server.resolver()
    await resolver.addresses("edge.test")
    server.answer = NOBODY
    with pytest.raises(DialError, match="edge.test: name or service not known"):
        await resolver.addresses("edge.test")


async def test_an_address_is_not_used_for_ever(server: NameServer) -> None:
    resolver = server.resolver()
    await resolver.addresses("edge.test")
    server.answer = AGAIN
    server.now = GOOD_SECONDS + 1
    with pytest.raises(DialError):
        await resolver.addresses("edge.test")


async def test_names_that_hang_hold_up_no_other(server: NameServer) -> None:
    """Nor the loop's own threads, however many dials wait for them."""
    resolver = server.resolver()
    server.open.clear()
    hanging = [asyncio.create_task(resolver.addresses(f"slow-{n % 20}.test")) for n in range(200)]
    await asyncio.sleep(0)
    began = time.monotonic()
    assert await asyncio.to_thread(lambda: 1) == 1
    assert await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)
    assert time.monotonic() - began < 2
    assert len(set(server.asked)) == 20 == len(server.asked), "one question for each name"
    server.open.set()
    assert all(await asyncio.gather(*hanging))


async def test_too_many_names_at_once_are_refused_and_known_ones_served(server: NameServer) -> None:
    resolver = server.resolver(max_lookups=2)
    await resolver.addresses("edge.test")
    server.open.clear()
    hanging = [asyncio.create_task(resolver.addresses(f"slow-{n}.test")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(DialError, match="2 other names wait"):
        await resolver.addresses("third.test")
    assert await resolver.addresses("edge.test") == ["192.0.2.1"]
    server.open.set()
    await asyncio.gather(*hanging)


async def test_who_gives_up_takes_the_answer_from_nobody(server: NameServer) -> None:
    resolver = server.resolver()
    server.open.clear()
    hasty, patient = (asyncio.create_task(resolver.addresses("edge.test")) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.gather(hasty, return_exceptions=True)
    server.open.set()
    assert await patient == ["192.0.2.1"]


def test_an_answer_that_comes_after_the_loop_ended_is_nobodys(server: NameServer) -> None:
    resolver = server.resolver()
    server.open.clear()

    async def hasty() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolver.addresses("edge.test"), 0.05)

    asyncio.run(hasty())
    waiting = [thread for thread in threading.enumerate() if thread.name == "lookup edge.test"]
    assert len(waiting) == 1 and waiting[0].daemon
    server.open.set()
    waiting[0].join(5)
    assert not waiting[0].is_alive()


async def test_few_names_are_remembered(server: NameServer) -> None:
    resolver = server.resolver()
    for n in range(MAX_REMEMBERED + 1):
        await resolver.addresses(f"n{n}.test")
    server.answer = AGAIN
    with pytest.raises(DialError):
        await resolver.addresses("n0.test")
    assert await resolver.addresses("n1.test") == ["192.0.2.1"]


async def _until_settled(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == f"lookup {name}":
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
