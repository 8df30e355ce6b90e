"""A slow link in user space between a host and its edge: PORT leads to TARGET, both of loopback.

``python -m tests.kit.slow_link PORT TARGET --shared|--each``; says ``ready``.

``--shared``: each direction is one queue of all connections, as they share a machine's uplink. What they send
goes in in turn, leaves at ``RATE`` and arrives ``DELAY_SECONDS`` later. While ``ROOM`` bytes wait in it
nothing more is taken from anybody. So under load it is always full, and a byte of any connection waits
``ROOM / RATE`` longer than on an idle link. That is a link whose queue is looked after (CoDel aims at 5 ms);
one with a longer queue delays everybody by as much more, whatever its users do about it. Nothing is lost.

``--each``: every connection has a queue of its own and the whole rate, as where an uplink is shared fairly
(fq_codel): connections do not feel one another.

Beside it each connection has what a socket holds, ``SOCKET_BYTES``, as a sender's own buffer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

RATE = 20e6  # bytes a second
DELAY_SECONDS = 0.01  # one way
ROOM = 100_000  # bytes: 5 ms
CHUNK = 16 * 1024  # bytes taken of a connection in its turn
SOCKET_BYTES = 64 * 1024
IDLE_SECONDS = 1.0


class Arrival(NamedTuple):
    """Bytes on their way; none: an end."""

    at: float
    to: Leg
    data: bytes


class Way:
    """One direction, of all connections or of one."""

    def __init__(self) -> None:
        self._free_at = 0.0  # when the last byte of the queue leaves
        self.under_way: deque[Arrival] = deque()

    def wait(self, now: float) -> float:
        """Seconds until something may be put in."""
        return max(0.0, self._free_at - now - ROOM / RATE)

    def put(self, now: float, to: Leg, data: bytes) -> None:
        self._free_at = max(self._free_at, now) + len(data) / RATE
        self.under_way.append(Arrival(self._free_at + DELAY_SECONDS, to, data))


@dataclass(eq=False)
class Leg:
    """One end's socket of a connection. ``way``: where what it sends goes."""

    socket: socket.socket
    way: Way
    other: Leg | None = None
    out: bytearray = field(default_factory=bytearray)  # has arrived and is not taken yet
    ended: bool = False  # it sends no more
    ending: bool = False  # nothing more comes for it

    def fileno(self) -> int:
        return self.socket.fileno()

    def deliver(self) -> None:
        """Hand over what arrived, as far as it is taken; raises OSError where nobody is there any more."""
        with contextlib.suppress(BlockingIOError):
            while self.out:
                del self.out[: self.socket.send(self.out)]
        if self.ending and not self.out:
            self.socket.shutdown(socket.SHUT_WR)
            self.ending = False


class Link:
    """``way`` makes or gives a connection's way: its own, or the one of all."""

    def __init__(self, port: int, target: int, *, each: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        self._target = target
        shared = Way(), Way()
        self._ways: Callable[[], tuple[Way, Way]] = (lambda: (Way(), Way())) if each else (lambda: shared)
        self._legs: deque[Leg] = deque()  # whose turn is next first

    def run(self) -> None:
        while True:
            now = time.monotonic()
            waits = [leg.way.wait(now) for leg in self._legs if not leg.ended]
            dues = [leg.way.under_way[0].at - now for leg in self._legs if leg.way.under_way]
            pause = max(0.0, min([IDLE_SECONDS, *filter(None, waits), *dues]))
            reading: list[Leg | socket.socket] = [self._listener]
            reading += [leg for leg in self._legs if not (leg.ended or leg.way.wait(now))]
            writing = [leg for leg in self._legs if leg.out]
            readable, writable, _ = select.select(reading, writing, [], pause)
            if self._listener in readable:
                self._take_connection()
            for leg in writable:
                self._guarded(leg, leg.deliver)
            self._carry({leg for leg in readable if isinstance(leg, Leg)})
            self._arrive(time.monotonic())

    def _carry(self, readable: set[Leg]) -> None:
        """A turn for each that has something to send."""
        for leg in list(self._legs):
            if leg in readable and not leg.way.wait(time.monotonic()):
                self._guarded(leg, lambda leg=leg: self._read(leg))  # type: ignore[misc]
        self._legs.rotate(-1)

    def _read(self, leg: Leg) -> None:
        with contextlib.suppress(BlockingIOError):
            data = leg.socket.recv(CHUNK)
            leg.ended = not data
            assert leg.other is not None
            leg.way.put(time.monotonic(), leg.other, data)

    def _arrive(self, now: float) -> None:
        for way in {id(leg.way): leg.way for leg in self._legs}.values():
            while way.under_way and way.under_way[0].at <= now:
                _, leg, data = way.under_way.popleft()
                if leg in self._legs:
                    leg.out += data
                    leg.ending = not data
                    self._guarded(leg, leg.deliver)

    def _take_connection(self) -> None:
        near, _ = self._listener.accept()
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        try:
            far.connect(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        up, down = self._ways()
        legs = Leg(near, up), Leg(far, down)
        for leg, other in zip(legs, reversed(legs), strict=True):
            leg.other = other
            leg.socket.setblocking(False)
            leg.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._legs.append(leg)

    def _guarded(self, leg: Leg, act: Callable[[], None]) -> None:
        """A connection that breaks ends on both sides; so does one that both have ended."""
        with contextlib.suppress(OSError):
            act()
            if not (leg.ended and leg.other is not None and leg.other.ended):
                return
            if leg.out or leg.ending or leg.other.out or leg.other.ending:
                return
            pair = leg, leg.other
            if any(arrival.to in pair for each in pair for arrival in each.way.under_way):
                return
        for each in (leg, leg.other):
            if each is not None and each in self._legs:
                self._legs.remove(each)
                each.socket.close()


if __name__ == "__main__":
    port, target, kind = sys.argv[1:]
    link = Link(int(port), int(target), each=kind == "--each")
    print("ready", flush=True)
    link.run()
