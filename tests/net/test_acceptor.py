from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from wellhead.net.acceptor import BATCH, Acceptor
from wellhead.net.sockets import Address, listen

BOTH_LOOPS = True


class Hall:
    """An acceptor, who came in, and what was refused."""

    def __init__(self, *, max_descriptor: int = 0) -> None:
        self.sockets: list[tuple[socket.socket, str]] = []
        self.refused: list[str] = []
        self.came = asyncio.Event()
        listeners = listen("127.0.0.1", 0)
        self.port: int = listeners[0].getsockname()[1]
        self.acceptor = Acceptor(
            listeners, self._on_socket, max_descriptor=max_descriptor, on_refused=self.refused.append
        )
        self.acceptor.start()

    def _on_socket(self, sock: socket.socket, ip: str) -> None:
        self.sockets.append((sock, ip))
        self.came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.sockets) < count:
                self.came.clear()
                await self.came.wait()

    def close(self) -> None:
        self.acceptor.close()
        for sock, _ in self.sockets:
            sock.close()


@contextlib.contextmanager
def hall(max_descriptor: int = 0) -> Iterator[Hall]:
    found = Hall(max_descriptor=max_descriptor)
    try:
        yield found
    finally:
        found.close()


@contextlib.contextmanager
def visitors(port: int, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            made.append(sock)
        yield made


def lowest_free() -> int:
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    return probe


async def wait_for(claim: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not claim():  # noqa: ASYNC110  # what is claimed tells nobody
            await asyncio.sleep(0.01)


async def test_more_than_a_batch_at_once_all_get_in() -> None:
    with hall() as place, visitors(place.port, 3 * BATCH):
        await place.until(3 * BATCH)
        assert all(not sock.getblocking() and ip == "127.0.0.1" for sock, ip in place.sockets)


async def test_both_families_get_in() -> None:
    with hall() as place, socket.create_connection(Address("::1", place.port)):
        await place.until(1)
        assert place.sockets[0][1] == "::1"


async def test_held_newcomers_wait_and_get_in_on_release() -> None:
    with hall() as place:
        place.acceptor.hold()
        with visitors(place.port, 3):
            await asyncio.sleep(0.05)
            assert place.sockets == []
            place.acceptor.release()
            await place.until(3)


async def test_a_closed_acceptor_refuses() -> None:
    with hall() as place:
        place.acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", place.port))
        place.acceptor.release()
        place.acceptor.close()


async def test_beyond_the_highest_descriptor_accepting_pauses_and_goes_on_by_itself() -> None:
    with hall(max_descriptor=lowest_free() + 60) as place, visitors(place.port, 40) as made:
        # Each of our visitors takes a descriptor too, so not all 40 have room.
        await wait_for(lambda: bool(place.refused))
        assert place.refused == ["descriptors"]
        inside = len(place.sockets)
        assert inside < 40
        for sock in made[:inside]:
            sock.close()
        for sock, _ in place.sockets:
            sock.close()
        await place.until(40)


@contextlib.contextmanager
def file_limit(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_without_a_descriptor_left_it_neither_spins_nor_stays_deaf() -> None:
    """G5: connections that found no room are closed; two seconds after there is room again, all is well."""
    with hall() as place, visitors(place.port, 30):
        with file_limit(lowest_free() + 10):
            await wait_for(lambda: bool(place.refused))
            assert len(place.sockets) <= 10
            before = time.process_time()
            await asyncio.sleep(0.6)
            assert time.process_time() - before < 0.3
        freed = time.monotonic()
        with visitors(place.port, 1) as [late]:
            inside = len(place.sockets)
            await place.until(inside + 1)
            assert time.monotonic() - freed < 2
            peers = [sock.getpeername() for sock, _ in place.sockets if sock.fileno() >= 0]
            await wait_for(lambda: late.getsockname() in [s.getpeername() for s, _ in place.sockets])
            assert len(peers) == len(set(peers))
