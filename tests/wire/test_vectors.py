"""The vectors of docs/reference/wire.md, replayed: whole, and cut into single bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import wellhead.errors
from wellhead.errors import FrameError, HelloError, WellheadError
from wellhead.wire.facts import Facts
from wellhead.wire.frames import Frame, Kind, read_frames
from wellhead.wire.messages import Hello, Refused, Welcome
from wellhead.wire.mux import Mux, MuxStream, Role
from wellhead.wire.streams import Buffer, HeadKind, StreamKind

VECTORS = Path(__file__).parents[1] / "vectors" / "wire"
MESSAGES: dict[str, type[Hello] | type[Welcome] | type[Refused]] = {
    "hello": Hello,
    "welcome": Welcome,
    "refused": Refused,
}
Step = list[Any]
Case = dict[str, Any]
WHOLE, SINGLE_BYTES = 0, 1


def cases(file: str, key: str = "cases") -> list[Any]:
    document = json.loads((VECTORS / file).read_text("utf-8"))
    return [pytest.param(case, id=case["name"]) for case in document[key]]


def from_hex(text: str) -> bytes:
    return b"".join(
        bytes(int(word[6:])) if word.startswith("zeros:") else bytes.fromhex(word) for word in text.split()
    )


@pytest.mark.parametrize("case", cases("frames.json"))
def test_a_frame_means_what_the_vector_says(case: Case) -> None:
    data = from_hex(case["bytes"])
    frame = Frame(Kind[case["kind"]], case["stream"], from_hex(case["payload"]), case["end"])
    assert read_frames(data) == ([frame], b"")
    assert frame.encode() == data


@pytest.mark.parametrize("case", cases("messages.json"))
def test_a_message_means_what_the_vector_says(case: Case) -> None:
    record = MESSAGES[case["message"]]
    message = record.decode(case["payload"].encode())
    assert asdict(message) == case["members"]
    assert record.decode(message.encode()) == message


@pytest.mark.parametrize("case", cases("messages.json", "refused_cases"))
def test_a_malformed_message_is_refused(case: Case) -> None:
    with pytest.raises(HelloError):
        MESSAGES[case["message"]].decode(case["payload"].encode())


@pytest.mark.parametrize("case", cases("facts.json"))
def test_an_envelope_of_a_tcp_stream_means_what_the_vector_says(case: Case) -> None:
    facts = Facts.decode(case["envelope"].encode())
    assert facts._asdict() == case["facts"]
    assert Facts.decode(facts.encode()) == facts


@pytest.mark.parametrize("case", cases("facts.json", "refused_cases"))
def test_a_malformed_envelope_of_a_tcp_stream_is_refused(case: Case) -> None:
    with pytest.raises(FrameError):
        Facts.decode(case["envelope"].encode())


class Player:
    """A mux that acts a conversation and writes down what it tells."""

    def __init__(self, case: Case, chop: int) -> None:
        self.chop = chop
        self.events: list[list[Any]] = []
        self.streams: dict[int, MuxStream] = {}
        self.mux = Mux(Role(case["role"]), self._opened, lambda: None, window=case["window"])
        self.mux.on_goaway = lambda *facts: self.events.append(["goaway", *facts])
        self.mux.start(case["peer_window"])

    def play(self, step: Step) -> None:
        verb, *arguments = step
        getattr(self, verb)(*arguments)

    def receive(self, data: str) -> None:
        read = from_hex(data)
        size = self.chop or len(read)
        for start in range(0, len(read), size):
            self.mux.receive(read[start : start + size])

    def open(self, stream: int, kind: int, envelope: str, data: str, end: bool) -> None:
        sink = Told(self, stream)
        opened = self.mux.open(StreamKind(kind), envelope.encode(), sink, from_hex(data), end)
        assert opened.id == stream
        self.streams[stream] = opened

    def head(self, stream: int, kind: int, head: str, data: str, end: bool) -> None:
        self.streams[stream].head(HeadKind(kind), head.encode(), from_hex(data), end)

    def send(self, stream: int, data: str, end: bool) -> None:
        self.streams[stream].send(from_hex(data), end)

    def reset(self, stream: int, reason: int) -> None:
        self.streams[stream].reset(reason)

    def consumed(self, stream: int, count: int) -> None:
        self.streams[stream].consumed(count)

    def goaway(self, reason: int, retry_after_ms: int, text: str) -> None:
        self.mux.goaway(reason, retry_after_ms, text)

    def lost(self) -> None:
        self.mux.lost()

    def sends(self, data: str) -> None:
        sent = b"".join(self.mux.take(2**30))
        assert sent.hex(" ", 4) == from_hex(data).hex(" ", 4)
        assert not self.mux.pending

    def tells(self, *events: list[Any]) -> None:
        told, self.events = self.events, []
        expected = [
            [from_hex(item) if _is_data(event, at) else item for at, item in enumerate(event)]
            for event in events
        ]
        assert merged(told) == expected

    def _opened(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        stream.sink = Told(self, stream.id)
        self.streams[stream.id] = stream
        self.events.append(["opened", stream.id, int(kind), envelope.decode(), bytes(data), end])


def _is_data(event: list[Any], at: int) -> bool:
    return (event[0], at) in {("opened", 4), ("head", 4), ("data", 2)}


def merged(events: list[list[Any]]) -> list[list[Any]]:
    """Neighbouring data events of a stream as one."""
    out: list[list[Any]] = []
    for event in events:
        if event[0] == "data" and out and out[-1][:2] == event[:2] and not out[-1][3]:
            out[-1] = ["data", event[1], out[-1][2] + event[2], event[3]]
        else:
            out.append(event)
    return out


class Told:
    """The sink of one stream of a player."""

    def __init__(self, player: Player, stream_id: int) -> None:
        self.player = player
        self.id = stream_id

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.player.events.append(["head", self.id, int(kind), head.decode(), bytes(data), end])

    def on_data(self, data: Buffer, end: bool) -> None:
        self.player.events.append(["data", self.id, bytes(data), end])

    def on_reset(self, reason: int) -> None:
        self.player.events.append(["reset", self.id, reason])

    def on_writable(self) -> None:
        self.player.events.append(["writable", self.id])


@pytest.mark.parametrize("chop", [WHOLE, SINGLE_BYTES, 7])
@pytest.mark.parametrize("case", cases("conversations.json"))
def test_a_conversation_goes_as_the_vector_says(case: Case, chop: int) -> None:
    player = Player(case, chop)
    for step in case["steps"]:
        player.play(step)


@pytest.mark.parametrize("chop", [WHOLE, SINGLE_BYTES, 7])
@pytest.mark.parametrize("case", cases("bad-input.json"))
def test_bad_input_ends_the_session_with_the_error_of_its_class(case: Case, chop: int) -> None:
    player = Player(case, chop)
    for step in case["steps"]:
        player.play(step)
    error: type[WellheadError] = getattr(wellhead.errors, case["error"])
    with pytest.raises(error) as raised:
        player.receive(case["bytes"])
    assert type(raised.value) is error
