"""Visitors that come at a fixed rate, whatever the answers take: what a stranger in a crowd waits.

A closed loop asks again when it was answered, so it takes all the CPU there is, and on a machine without a
free CPU its p99 is mostly the scheduler's. Here requests are due at fixed times, on connections that stay
open; one that finds no free connection waits, and its wait counts from when it was due.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

from bench.load import BODY, Door
from bench.processes import Unavailable

CONNECTIONS = 32
_PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Paced:
    """Latencies in microseconds, from when a request was due to the last byte of its answer."""

    p50: float
    p99: float
    late: float  # p99 of how late we were ourselves with sending: the part that is not the target's
    rate: float  # answers per second


@dataclass(slots=True)
class _Visitor:
    sock: socket.socket
    due: float = 0.0
    got: bytes = b""


def paced(door: Door, per_second: int, seconds: int) -> Paced:
    """Ask for the small body so often, for so long.

    Raises:
        Unavailable: a connection ended, or an answer is not the right one or does not come.
    """
    request = f"GET /hello HTTP/1.1\r\nHost: {door.authority}\r\n\r\n".encode()
    visitors = [_Visitor(door.connect()) for _ in range(CONNECTIONS)]
    gc.disable()
    try:
        return _run(visitors, request, per_second, per_second * seconds)
    finally:
        gc.enable()
        for visitor in visitors:
            visitor.sock.close()


def _run(visitors: list[_Visitor], request: bytes, per_second: int, count: int) -> Paced:
    free, waiting, busy = deque(visitors), deque[float](), dict[socket.socket, _Visitor]()
    waits: list[float] = []
    lateness: list[float] = []
    clock, began, made = time.perf_counter, time.perf_counter(), 0
    while len(waits) < count:
        now = clock()
        while made < count and began + made / per_second <= now:
            waiting.append(began + made / per_second)
            made += 1
        while waiting and free:
            visitor = free.popleft()
            visitor.due, visitor.got = waiting.popleft(), b""
            lateness.append(now - visitor.due)
            visitor.sock.sendall(request)
            busy[visitor.sock] = visitor
        patience = _PATIENCE_SECONDS if made == count else began + made / per_second - clock()
        # The only call here that waits for less than a millisecond when asked to.
        ready = select.select(list(busy), (), (), max(0.0, patience))[0]
        if not ready and made == count:
            raise Unavailable(f"{len(busy)} requests without an answer after {_PATIENCE_SECONDS} s")
        for sock in ready:
            visitor = busy[sock]
            if _answered(visitor):
                waits.append(clock() - visitor.due)
                del busy[sock]
                free.append(visitor)
    spent = clock() - began
    waits.sort()
    lateness.sort()
    at = int(count * 0.99)
    return Paced(waits[count // 2] * 1e6, waits[at] * 1e6, lateness[at] * 1e6, count / spent)


def _answered(visitor: _Visitor) -> bool:
    piece = visitor.sock.recv(65536)
    visitor.got += piece
    if not piece or not b"HTTP/1.1 200".startswith(visitor.got[:12]):
        raise Unavailable(f"a request was answered {visitor.got[:40].decode(errors='replace')!r}")
    return visitor.got.endswith(BODY)
