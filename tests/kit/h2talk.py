"""HTTP/2 connections without a network: ours on a table, frames by hand, and somebody who listens."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import hpack
import pytest

from wellhead.errors import H2Error
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Sink, H2Stream, H2Terms
from wellhead.wire.h2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    settings_frame,
)
from wellhead.wire.streams import Buffer

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
OK: Fields = [(b":status", b"200")]
HUGE = 2**30
DEFAULT = H2Terms()


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The last 32 bits: an error code, or a credit."""
        return int(struct.unpack("!I", self.payload[-4:])[0])


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack("!IBI", len(payload) << 8 | kind, flags, stream_id) + payload


def frames(data: bytes) -> list[Frame]:
    found = []
    data = data.removeprefix(PREFACE)
    while data:
        word, flags, stream_id = struct.unpack_from("!IBI", data)
        end = 9 + (word >> 8)
        found.append(Frame(word & 0xFF, flags, stream_id, data[9:end]))
        data = data[end:]
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ear:
    """A sink that writes down what it hears, and consumes it unless it is told not to."""

    stream: H2Stream | None = None
    greedy: bool = True
    heads: list[Fields] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    resets: list[int] = field(default_factory=list)
    writable: int = 0

    def on_headers(self, fields: Fields, end: bool) -> None:
        assert not self.ended and not self.resets
        self.heads.append(fields)
        self.ended = end

    def on_data(self, data: Buffer, end: bool) -> None:
        assert not self.ended and not self.resets
        self.body += data
        self.ended = end
        if self.greedy and self.stream is not None:
            self.stream.consumed(len(data))

    def on_reset(self, code: int) -> None:
        assert not self.resets
        self.resets.append(code)

    def on_writable(self) -> None:
        self.writable += 1


class End:
    """One of our connections, and all that it told."""

    def __init__(
        self, role: H2Role, terms: H2Terms = DEFAULT, *, greedy: bool = True, **changes: Any
    ) -> None:
        self.clock = Clock()
        self.ears: dict[int, Ear] = {}
        self.heads: dict[int, tuple[Fields, bool]] = {}
        self.notes: list[str] = []
        self.goaways: list[tuple[int, int]] = []
        self.wakes = 0
        self.greedy = greedy
        self.connection = H2Connection(
            role,
            terms=replace(terms, **changes),
            on_stream=self._on_stream,
            on_goaway=lambda last, code: self.goaways.append((last, code)),
            wake=self._wake,
            clock=self.clock,
            note=self.notes.append,
        )
        self.connection.start()

    def _wake(self) -> None:
        self.wakes += 1

    def _on_stream(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        self.heads[stream.id] = (fields, end)
        stream.sink = self.ears[stream.id] = Ear(stream, self.greedy, ended=end)

    def open(self, fields: Fields = GET, end: bool = True) -> Ear:
        """CLIENT: open a stream."""
        ear = Ear(greedy=self.greedy)
        ear.stream = self.connection.open(fields, end, ear)
        return ear

    def stream(self, stream_id: int) -> H2Stream:
        stream = self.ears[stream_id].stream
        assert stream is not None
        return stream

    def take(self, room: int = HUGE) -> bytes:
        return b"".join(self.connection.take(room))

    def tick(self, seconds: float) -> None:
        """Let time pass, looked at four times a second."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 0.25)
            self.connection.tick(self.clock.now)


class ByHand:
    """A server of ours and a client that may send anything."""

    def __init__(
        self, *, settings: dict[int, int] | None = None, greedy: bool = True, **changes: Any
    ) -> None:
        self.server = End(H2Role.SERVER, greedy=greedy, **changes)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 2**20
        self.send(PREFACE + settings_frame(settings or {}) + SETTINGS_ACK)
        self.greeting = self.got()

    def send(self, data: bytes) -> None:
        self.server.connection.receive(data)

    def got(self, room: int = HUGE) -> list[Frame]:
        return frames(self.server.take(room))

    def head(self, stream_id: int, fields: Fields = GET, end: bool = True) -> bytes:
        flags = END_HEADERS | END_STREAM if end else END_HEADERS
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def data(self, stream_id: int, data: bytes, end: bool = False) -> bytes:
        return frame(DATA, END_STREAM if end else 0, stream_id, data)

    def resets(self) -> list[tuple[int, int]]:
        """Streams that were reset since the last look, with codes."""
        return [(one.stream_id, one.number) for one in self.got() if one.kind == RST_STREAM]

    def fails(self, data: bytes) -> tuple[int, str]:
        """Send what ends the connection; its error code, which the GOAWAY says too, and its word."""
        with pytest.raises(H2Error) as caught:
            self.send(data)
        return self.ended_by(caught.value)

    def fails_within(self, seconds: float) -> tuple[int, str]:
        with pytest.raises(H2Error) as caught:
            self.server.tick(seconds)
        return self.ended_by(caught.value)

    def ended_by(self, error: H2Error) -> tuple[int, str]:
        last = self.got()[-1]
        assert (last.kind, last.number) == (GOAWAY, error.error_code)
        return error.error_code, error.reason


def exchange(one: End, other: End, chop: int = 0, turns: int = 10_000) -> None:
    """Carry bytes both ways until nobody has anything to say; ``chop``: in pieces of so many."""
    for _ in range(turns):
        there, back = one.take(), other.take()
        if not there and not back:
            return
        for end, data in ((other, there), (one, back)):
            step = chop or len(data) or 1
            for at in range(0, len(data), step):
                end.connection.receive(data[at : at + step])
    raise AssertionError("they talk for ever")


def is_sink(ear: Ear) -> H2Sink:
    """Checked by the type checker: an Ear fits."""
    return ear


__all__ = [
    "GET",
    "HUGE",
    "OK",
    "POST",
    "SETTINGS",
    "ByHand",
    "Clock",
    "Ear",
    "End",
    "Frame",
    "exchange",
    "frame",
    "frames",
]
