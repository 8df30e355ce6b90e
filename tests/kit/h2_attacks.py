"""A visitor that abuses HTTP/2, frame by frame, and one that stays just below each limit.

``python -m tests.kit.h2_attacks PORT CA HOSTNAME`` waits for lines: the name of an attack starts it, an
empty line stops it. It attacks from one connection, and from another as soon as that was ended; how each
ended is a line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

import hpack

from tests.kit.h2talk import Frame, frame
from tests.kit.loads import ELSEWHERE
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    ErrorCode,
    ping_frame,
    reset_frame,
    settings_frame,
    window_frame,
)

PAUSE_SECONDS = 0.1  # between the end of a connection and the next: a flood of handshakes is another attack
STALL_SECONDS, BODY_SECONDS, IDLE_SECONDS, PREFACE_SECONDS = 1.5, 1.5, 3.0, 1.0
SETTINGS_OF_HOUSE: dict[str, object] = {
    "write_idle_seconds": STALL_SECONDS,
    "body_idle_seconds": BODY_SECONDS,
    "idle_seconds": IDLE_SECONDS,
    "h2_preface_seconds": PREFACE_SECONDS,
}
"""Clocks short enough for a test; every other limit is as it is shipped."""


class Target(Protocol):
    """Where to attack: an edge will do."""

    @property
    def https(self) -> int: ...
    def trust(self) -> ssl.SSLContext: ...


@dataclass
class Outcome:
    """How a connection ended. Seconds count from the first frame of the attack."""

    goaways: list[int] = field(default_factory=list)  # error codes
    told: float | None = None  # when the last of them came
    closed: float | None = None
    resets: dict[int, int] = field(default_factory=dict)  # stream -> code
    statuses: dict[int, int] = field(default_factory=dict)  # stream -> status
    got: int = 0  # body bytes

    @property
    def code(self) -> int | None:
        """That of the last GOAWAY."""
        return self.goaways[-1] if self.goaways else None


class Attacker:
    """One connection. ``over`` when the edge said GOAWAY with an error, or closed."""

    def __init__(self, hostname: str, port: int, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]):
        self.outcome = Outcome()
        self.ended: dict[int, asyncio.Event] = {}
        self._authority = f"{hostname}:{port}"
        self._reader, self._writer = streams
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._next_id = 1
        self._began = time.monotonic()
        self._reading = asyncio.create_task(self._read())
        self.credits = True  # gives back what it gets

    @property
    def over(self) -> bool:
        return self.outcome.closed is not None or self.outcome.code not in (None, ErrorCode.NO_ERROR)

    @property
    def is_open(self) -> bool:
        return self.outcome.closed is None

    def greet(self, **values: int) -> None:
        """Preface and SETTINGS."""
        names = {"window": INITIAL_WINDOW_SIZE, "frame": MAX_FRAME_SIZE, "table": HEADER_TABLE_SIZE}
        settings = {names[name]: value for name, value in values.items()}
        self._writer.write(PREFACE + settings_frame(settings) + SETTINGS_ACK)

    async def send(self, *frames: bytes) -> None:
        """Frames, as fast as they are taken; nothing where nobody takes them any more."""
        if not self._writer.is_closing():
            self._writer.write(b"".join(frames))
            with contextlib.suppress(OSError):
                await self._writer.drain()
        await asyncio.sleep(0)

    def block(self, method: str = "GET", target: str = "/echo", *fields: tuple[str, str]) -> bytes:
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self._authority)]
        return self._encoder.encode([*pseudo, (":path", target), *fields])

    def more(self, name: str, value: str) -> bytes:
        """A field that goes on with a header block."""
        return self._encoder.encode([(name, value)])

    def stream(self) -> int:
        """The next stream's id."""
        number, self._next_id = self._next_id, self._next_id + 2
        self.ended[number] = asyncio.Event()
        return number

    def jump(self, number: int) -> None:
        """Let the next stream's id be this one."""
        self._next_id = number

    def ask(
        self, target: str = "/echo", *fields: tuple[str, str], method: str = "GET", end: bool = True
    ) -> tuple[int, bytes]:
        """A stream's id, and its request head as a frame."""
        number = self.stream()
        flags = END_HEADERS | END_STREAM if end else END_HEADERS
        return number, frame(HEADERS, flags, number, self.block(method, target, *fields))

    async def answered(self, number: int) -> int:
        """The status of a stream's reply, once it is whole or the stream is reset; 0: no reply."""
        async with asyncio.timeout(20):
            await self.ended[number].wait()
        return self.outcome.statuses.get(number, 0)

    async def closed(self, seconds: float) -> bool:
        """Whether the edge closes within this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._reading)
        return not self.is_open

    async def leave(self) -> None:
        self._reading.cancel()
        self._writer.transport.abort()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                word, flags, number = struct.unpack("!IBI", await self._reader.readexactly(9))
                payload = await self._reader.readexactly(word >> 8)
                self._took(Frame(word & 0xFF, flags, number, payload))
        self.outcome.closed = time.monotonic() - self._began
        for event in self.ended.values():
            event.set()

    def _took(self, got: Frame) -> None:
        outcome, number = self.outcome, got.stream_id
        if got.kind == GOAWAY:
            outcome.goaways.append(struct.unpack_from("!I", got.payload, 4)[0])
            outcome.told = time.monotonic() - self._began
        elif got.kind == RST_STREAM:
            outcome.resets[number] = got.number
        elif got.kind == HEADERS:
            name, value = next(iter(self._decoder.decode(got.payload, raw=True)))
            if name == b":status":
                outcome.statuses[number] = int(value)
        elif got.kind == DATA:
            outcome.got += len(got.payload)
            if self.credits and got.payload and not self._writer.is_closing():
                self._writer.write(window_frame(0, len(got.payload)) + window_frame(number, len(got.payload)))
        elif got.kind == PING and not got.flags & ACK and not self._writer.is_closing():
            self._writer.write(ping_frame(got.payload, ACK))
        if got.kind == RST_STREAM or (got.kind in (HEADERS, DATA) and got.flags & END_STREAM):
            if number in self.ended:
                self.ended[number].set()


@contextlib.asynccontextmanager
async def attacking(target: Target, hostname: str) -> AsyncIterator[Attacker]:
    """A connection over TLS that says nothing of itself."""
    context = target.trust()
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(20):
        streams = await asyncio.open_connection(
            "127.0.0.1", target.https, ssl=context, server_hostname=hostname
        )
    attacker = Attacker(hostname, target.https, streams)
    try:
        yield attacker
    finally:
        await attacker.leave()


Act = Callable[[Attacker], Awaitable[None]]


class Attack(NamedTuple):
    """``flood`` goes on until the connection is over; ``below`` for as long as it is let.

    ``reason``: the label of the metric and the word in the log. ``within``: seconds from the first frame
    to the close, of which the limit itself may take the most.
    """

    row: str
    flood: Act
    below: Act
    code: int | None
    reason: str
    within: float = 1.0

    async def run(self, a: Attacker) -> None:
        """To the end: the edge closes, if it is to."""
        await self.flood(a)
        if self.code is not None:
            await a.closed(5)


def every(seconds: float) -> Awaitable[None]:
    return asyncio.sleep(seconds)


# B1, B2: streams that are reset


async def reset_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        frames: list[bytes] = []
        for _ in range(20):
            number, head = a.ask()
            frames += (head, reset_frame(number, ErrorCode.CANCEL))
        await a.send(*frames)


async def reset_some(a: Attacker) -> None:
    """Forty a second, and as many and more that are not reset."""
    a.greet()
    while not a.over:
        number, head = a.ask()
        whole, other = a.ask()
        also, third = a.ask()
        await a.send(head, reset_frame(number, ErrorCode.CANCEL), other, third)
        assert await a.answered(whole) == await a.answered(also) == 200, a.outcome
        await every(1 / 40)


async def violation_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(*_violation(a), *_violation(a))


def _violation(a: Attacker) -> tuple[bytes, bytes]:
    """A body that is longer than it said: we have to reset the stream."""
    number, head = a.ask("/echo", ("content-length", "1"), method="POST", end=False)
    return head, frame(DATA, 0, number, b"longer")


async def violate_some(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(*_violation(a), a.ask()[1])
        await every(1 / 25)


# B3: too many streams


async def stream_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(*(a.ask(method="POST", end=False)[1] for _ in range(50)))


async def hundred_streams(a: Attacker) -> None:
    a.greet()
    while not a.over:
        asked = [a.ask(method="POST", end=False) for _ in range(100)]
        await a.send(*(head for _, head in asked))
        await a.send(*(frame(DATA, END_STREAM, number, b"x") for number, _ in asked))
        for number, _ in asked:
            assert await a.answered(number) == 200, a.outcome
        await every(0.3)


# B4, B5: header blocks


async def continuation_flood(a: Attacker) -> None:
    a.greet()
    await a.send(frame(HEADERS, END_STREAM, a.stream(), a.block()))
    while not a.over:
        await a.send(*[frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")] * 50)


async def sixteen_continuations(a: Attacker) -> None:
    a.greet()
    while not a.over:
        number = a.stream()
        pieces = [frame(HEADERS, END_STREAM, number, a.block())]
        pieces += [frame(CONTINUATION, 0, number, a.more(f"x-{index}", "y" * 1000)) for index in range(15)]
        await a.send(*pieces, frame(CONTINUATION, END_HEADERS, number, b""))
        assert await a.answered(number) == 200, a.outcome
        await every(0.05)


async def hpack_bomb(a: Attacker) -> None:
    """One field of 4000 bytes, and twelve thousand times the same again for a byte each."""
    a.greet()
    literal = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000
    while not a.over:
        block = a.block() + literal + b"\xbe" * 12_000
        await a.send(frame(HEADERS, END_HEADERS | END_STREAM, a.stream(), block))


async def large_lists(a: Attacker) -> None:
    """Lists of almost 32 KiB, most of it by reference."""
    a.greet()
    value = "v" * 1400
    while not a.over:
        number, head = a.ask("/echo", *[("x-many", value)] * 20)
        await a.send(head)
        assert await a.answered(number) == 200, a.outcome
        await every(0.05)


# B6, B7, B8: frames that cost the attacker nothing


async def settings_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(settings_frame({}) * 100)


async def settings_some(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(settings_frame({INITIAL_WINDOW_SIZE: 100_000}), a.ask()[1])
        await every(1 / 45)


async def ping_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(ping_frame(bytes(8)) * 100)


async def ping_some(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(ping_frame(bytes(8)), a.ask()[1])
        await every(1 / 90)


async def empty_flood(a: Attacker) -> None:
    a.greet()
    number, head = a.ask(method="POST", end=False)
    await a.send(head)
    while not a.over:
        await a.send(frame(DATA, 0, number) * 100)


async def empty_some(a: Attacker) -> None:
    """Ten in a row, and eighty a second."""
    a.greet()
    while not a.over:
        number, head = a.ask(method="POST", end=False)
        await a.send(head, frame(DATA, 0, number) * 10, frame(DATA, END_STREAM, number, b"x"))
        assert await a.answered(number) == 200, a.outcome
        await every(10 / 80)


async def priority_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(frame(PRIORITY, 0, 1, bytes(5)) * 200)


async def priority_some(a: Attacker) -> None:
    a.greet()
    while not a.over:
        number, head = a.ask()
        await a.send(head, frame(PRIORITY, 0, number, bytes(5)) * 99)
        assert await a.answered(number) == 200, a.outcome
        await every(0.02)


async def window_update_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(window_frame(0, 1) * 200)


async def window_update_some(a: Attacker) -> None:
    """Twice for each request, and twice for its one frame of DATA."""
    a.greet()
    while not a.over:
        number, head = a.ask()
        await a.send(head, window_frame(0, 1) * 2)
        assert await a.answered(number) == 200, a.outcome
        await every(0.02)


# B9, B10: waiting


async def window_stall(a: Attacker) -> None:
    """A hundred large replies of which no byte is taken."""
    a.greet(window=0)
    await a.send(*(a.ask("/bytes/1000000")[1] for _ in range(100)))
    await a.closed(STALL_SECONDS + 10)


async def slow_read(a: Attacker) -> None:
    """As above, and two bytes a second are taken of each."""
    a.credits = False
    a.greet(window=0)
    asked = [a.ask("/bytes/1000000") for _ in range(100)]
    await a.send(*(head for _, head in asked))
    while not a.over:
        await a.send(*(window_frame(number, 1) for number, _ in asked))
        await a.closed(0.5)


async def slow_but_moving(a: Attacker) -> None:
    """Four KiB a second of a reply."""
    a.credits = False
    a.greet(window=2048)
    number, head = a.ask("/bytes/1000000")
    await a.send(head)
    while not a.over:
        await a.send(window_frame(number, 2048), window_frame(0, 2048))
        await every(0.5)
        assert number not in a.outcome.resets, a.outcome


async def bodies_never_sent(a: Attacker) -> None:
    """A hundred requests whose bodies do not come: each is answered 408, and the connection lives."""
    a.greet()
    asked = [a.ask("/echo", ("content-length", "1000"), method="POST", end=False) for _ in range(100)]
    await a.send(*(head for _, head in asked))
    for number, _ in asked:
        await a.answered(number)


async def body_that_trickles(a: Attacker) -> None:
    a.greet()
    number, head = a.ask("/echo", method="POST", end=False)
    await a.send(head)
    while not a.over:
        await a.send(frame(DATA, 0, number, b"x" * 300))
        await every(0.5)
        assert number not in a.outcome.statuses and number not in a.outcome.resets, a.outcome


# B11: SETTINGS that are none, and the largest there may be


async def bad_frame_size(a: Attacker) -> None:
    a.greet(frame=1)
    await a.closed(5)


async def bad_window(a: Attacker) -> None:
    a.greet(window=MAX_WINDOW + 1)
    await a.closed(5)


async def window_overflow(a: Attacker) -> None:
    a.greet()
    await a.send(window_frame(0, MAX_WINDOW))
    await a.closed(5)


async def largest_settings(a: Attacker) -> None:
    a.greet(window=MAX_WINDOW, frame=2**24 - 1, table=2**32 - 1)
    while not a.over:
        number, head = a.ask("/echo", ("x-new", str(random.random())))
        await a.send(head)
        assert await a.answered(number) == 200, a.outcome
        await every(0.02)


# B12, B13, B14: from the first byte to the last


async def idle(a: Attacker) -> None:
    a.greet()
    await a.closed(IDLE_SECONDS + 10)


async def seldom(a: Attacker) -> None:
    a.greet()
    while not a.over:
        number, head = a.ask()
        await a.send(head)
        assert await a.answered(number) == 200 and not a.outcome.goaways, a.outcome
        await every(IDLE_SECONDS * 0.7)


async def last_stream(a: Attacker) -> None:
    """Stream ids almost used up."""
    a.greet()
    a.jump(2**30 + 1)
    number, head = a.ask()
    await a.send(head)
    assert await a.answered(number) == 200, a.outcome
    await a.closed(10)


async def many_requests(a: Attacker) -> None:
    """As many as there is time for, one after the other."""
    a.greet()
    while not a.over:
        number, head = a.ask()
        await a.send(head)
        assert await a.answered(number) == 200 and not a.outcome.goaways, a.outcome


async def no_preface(a: Attacker) -> None:
    await a.closed(PREFACE_SECONDS + 10)


async def dripping_preface(a: Attacker) -> None:
    for at in range(len(PREFACE) - 1):
        await a.send(PREFACE[at : at + 1])
        if await a.closed(PREFACE_SECONDS / 10):
            break


async def late_preface(a: Attacker) -> None:
    await every(PREFACE_SECONDS * 0.5)
    await many_requests(a)


# B15: small violations


async def glitch_flood(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(frame(SETTINGS, ACK) * 50)


async def glitch_some(a: Attacker) -> None:
    a.greet()
    while not a.over:
        await a.send(frame(SETTINGS, ACK), a.ask()[1])
        await every(1 / 50)


CALM, BROKEN, FLOW = ErrorCode.ENHANCE_YOUR_CALM, ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
_LATE = 1.5  # seconds: limits on time are looked at four times a second, and stalls once

ATTACKS = {
    "rapid-reset": Attack("B1", reset_flood, reset_some, CALM, "h2-rapid-reset"),
    "made-you-reset": Attack("B2", violation_flood, violate_some, CALM, "h2-made-you-reset"),
    "streams": Attack("B3", stream_flood, hundred_streams, CALM, "h2-glitches"),
    "continuation": Attack("B4", continuation_flood, sixteen_continuations, CALM, "h2-continuation-flood"),
    "hpack-bomb": Attack("B5", hpack_bomb, large_lists, CALM, "h2-hpack-bomb"),
    "settings": Attack("B6", settings_flood, settings_some, CALM, "h2-settings-flood"),
    "ping": Attack("B6", ping_flood, ping_some, CALM, "h2-ping-flood"),
    "empty-data": Attack("B7", empty_flood, empty_some, CALM, "h2-empty-frames"),
    "priority": Attack("B8", priority_flood, priority_some, CALM, "h2-priority-flood"),
    "window-update": Attack("B8", window_update_flood, window_update_some, CALM, "h2-window-update-flood"),
    "window-stall": Attack(
        "B9", window_stall, slow_but_moving, CALM, "h2-stalled", STALL_SECONDS + 1 + _LATE
    ),
    "slow-read": Attack("B9", slow_read, slow_but_moving, CALM, "h2-stalled", STALL_SECONDS + 1 + _LATE),
    "no-bodies": Attack("B10", bodies_never_sent, body_that_trickles, None, "slow-request"),
    "frame-size": Attack("B11", bad_frame_size, largest_settings, BROKEN, "h2-settings"),
    "bad-window": Attack("B11", bad_window, largest_settings, FLOW, "h2-settings"),
    "window-overflow": Attack("B11", window_overflow, largest_settings, FLOW, "h2-window"),
    "idle": Attack("B12", idle, seldom, ErrorCode.NO_ERROR, "", IDLE_SECONDS + 2 + _LATE),
    "last-stream": Attack("B13", last_stream, many_requests, ErrorCode.NO_ERROR, "", 2 + _LATE),
    "no-preface": Attack("B14", no_preface, late_preface, BROKEN, "h2-preface", PREFACE_SECONDS + _LATE),
    "slow-preface": Attack(
        "B14", dripping_preface, late_preface, BROKEN, "h2-preface", PREFACE_SECONDS + _LATE
    ),
    "glitches": Attack("B15", glitch_flood, glitch_some, CALM, "h2-glitches"),
}
"""By a name of ours. ``code`` None: the connection lives; ``reason`` "": it is no offence."""


# In a process of its own


class Campaign:
    """The attacking process. ``outcomes``: of every connection that ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.outcomes: list[Outcome] = []
        self._process = process
        self._stopped = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def start(self, name: str) -> None:
        self._say(name)

    def stop(self) -> None:
        """Returns when the attack is over."""
        self._stopped.clear()
        self._say("")
        assert self._stopped.wait(20), "the attacker hangs"

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reading.join(10)
        self._process.kill()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "stopped":
                self._stopped.set()
            elif line.startswith("{"):
                self.outcomes.append(Outcome(**json.loads(line)))
            else:
                print("attacker:", line, end="", file=sys.stderr)


@contextlib.contextmanager
def campaigning(port: int, ca: str, hostname: str) -> Iterator[Campaign]:
    """A process that attacks when it is told."""
    with subprocess.Popen(
        [*ELSEWHERE, sys.executable, "-m", "tests.kit.h2_attacks", str(port), ca, hostname],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        campaign = Campaign(process)
        try:
            yield campaign
        finally:
            campaign.end()


@dataclass
class _Edge:
    https: int
    ca: str

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


async def _campaign(edge: _Edge, hostname: str, attack: Attack) -> None:
    while True:
        async with attacking(edge, hostname) as attacker:
            await attack.run(attacker)
            print(json.dumps(asdict(attacker.outcome)), flush=True)
        await asyncio.sleep(PAUSE_SECONDS)


async def _main(port: int, ca: str, hostname: str) -> None:
    edge = _Edge(port, ca)
    loop = asyncio.get_running_loop()
    running: asyncio.Task[None] | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if running is not None:
            running.cancel()
            for failure in await asyncio.gather(running, return_exceptions=True):
                if not isinstance(failure, asyncio.CancelledError):
                    print(repr(failure), flush=True)
            running = None
            print("stopped", flush=True)
        if line.strip():
            running = asyncio.create_task(_campaign(edge, hostname, ATTACKS[line.strip()]))
    if running is not None:
        running.cancel()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
