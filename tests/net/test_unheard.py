"""Who talks on when all is said is read for a while, and then no longer."""

from __future__ import annotations

import pytest

from tests.kit.doors import FakeStream
from tests.kit.tls_visitor import soon
from wellhead.net import unheard
from wellhead.net.farewell import LINGER_BYTES
from wellhead.net.unheard import Unheard
from wellhead.wire.streams import HeadKind, NoSink, Reason, StreamKind


def stream_of(queued: int = 0) -> FakeStream:
    """A stream whose half that is ours has ended; ``queued`` bytes of it are not on their way yet."""
    stream = FakeStream(StreamKind.TCP, b"", NoSink(), b"all is said", True)
    stream.queued = queued
    stream.sink = Unheard(stream)
    return stream


@pytest.fixture
def soon_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unheard, "LINGER_SECONDS", 0.01)


async def test_what_comes_is_taken_and_thrown_away_up_to_a_bound() -> None:
    stream = stream_of()
    for _ in range(LINGER_BYTES // 1024):
        stream.sink.on_data(bytes(1024), False)
    assert stream.credit == LINGER_BYTES and not stream.resets
    stream.sink.on_data(b"x", False)
    assert stream.resets == [Reason.OVERLOADED]


async def test_bytes_do_not_count_while_ours_still_wait() -> None:
    stream = stream_of(queued=1)
    stream.sink.on_data(bytes(LINGER_BYTES + 1), False)
    assert not stream.resets
    stream.queued = 0
    stream.sink.on_data(bytes(LINGER_BYTES), False)
    assert not stream.resets
    stream.sink.on_data(b"x", False)
    assert stream.resets == [Reason.OVERLOADED]


@pytest.mark.usefixtures("soon_late")
async def test_who_only_waits_is_reset_too() -> None:
    stream = stream_of()
    await soon(lambda: stream.resets)
    assert stream.resets == [Reason.TIMEOUT]


@pytest.mark.usefixtures("soon_late")
async def test_time_does_not_count_while_ours_still_waits() -> None:
    first, second = stream_of(queued=1), stream_of()
    await soon(lambda: second.resets)
    again = stream_of()
    await soon(lambda: again.resets)
    assert not first.resets
    first.queued = 0
    await soon(lambda: first.resets)
    assert first.resets == [Reason.TIMEOUT]


@pytest.mark.usefixtures("soon_late")
async def test_last_words_that_are_said_later_are_waited_for_as_well() -> None:
    stream, other = stream_of(), stream_of()
    stream.queued = 7
    await soon(lambda: other.resets)
    assert not stream.resets
    stream.queued = 0
    await soon(lambda: stream.resets)


@pytest.mark.usefixtures("soon_late")
async def test_an_end_or_a_reset_of_the_peer_is_the_end() -> None:
    ended, gone, other = stream_of(), stream_of(), stream_of()
    ended.sink.on_data(b"bye", True)
    gone.sink.on_reset(Reason.CANCELLED)
    await soon(lambda: other.resets)
    assert not ended.resets and not gone.resets


async def test_a_head_is_against_the_rules() -> None:
    stream = stream_of()
    stream.sink.on_head(HeadKind.REPLY, b"", b"", False)
    assert stream.resets == [Reason.PROTOCOL]
