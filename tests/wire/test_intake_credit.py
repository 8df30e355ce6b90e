"""Credit in lumps: whatever is sent in which order, no window is ever lost. hyper-h2 itself is the agent."""

from __future__ import annotations

import pytest
from h2.windows import WindowManager
from hypothesis import given
from hypothesis import strategies as st

from wellhead.wire.intake_credit import (
    ALWAYS_FITS,
    LUMPY_WINDOW,
    MAX_FRAME,
    Move,
    Step,
    next_step,
    pongs,
)
from wellhead.wire.ws_frames import PONG, FrameReader


class Window:
    """One window from both ends: what the edge may send, and hyper-h2's own book of it."""

    def __init__(self) -> None:
        self.left = LUMPY_WINDOW
        self._manager = WindowManager(LUMPY_WINDOW)

    def send(self, size: int) -> None:
        assert size <= self.left, "more than the window takes"
        self.left -= size
        self._manager.window_consumed(size)

    def consume(self, size: int) -> None:
        self.left += self._manager.process_bytes(size) or 0


class Agent:
    """The Python SDK: a bridge's bytes are consumed when an envelope is whole, all others at once."""

    def __init__(self, bridges: int) -> None:
        self.connection = Window()
        self.bridges = [Window() for _ in range(bridges)]

    def body(self, size: int) -> None:
        """Bytes of a request's body, as far as the window goes."""
        size = min(size, self.connection.left)
        self.connection.send(size)
        self.connection.consume(size)

    def frame(self, bridge: int, size: int) -> None:
        """A whole frame on a bridge."""
        for window in (self.connection, self.bridges[bridge]):
            window.send(size)
        for window in (self.connection, self.bridges[bridge]):
            window.consume(size)


def deliver(agent: Agent, bridge: int, frame: int) -> int:
    """Bring a frame to a bridge; how many steps it took."""
    for steps in range(1, 10):
        step = next_step(agent.bridges[bridge].left, agent.connection.left, frame)
        if step.move is Move.SEND:
            agent.frame(bridge, frame)
            return steps
        if step.move is Move.PUMP_STREAM:
            agent.frame(bridge, len(pongs(step.size)))
        else:
            assert step.move is Move.PUMP_CONNECTION, "it waits for credit that no byte is going to bring"
            agent.body(step.size)
    raise AssertionError(f"a frame of {frame} bytes is not sent in ten steps")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.one_of(st.integers(1, MAX_FRAME), st.just(MAX_FRAME))),
            st.tuples(st.just(-1), st.integers(1, 70_000)),
        ),
        max_size=60,
    )
)
def test_every_frame_that_fits_is_delivered_whatever_came_before(said: list[tuple[int, int]]) -> None:
    agent = Agent(3)
    for bridge, size in said:
        if bridge < 0:
            agent.body(size)
        else:
            deliver(agent, bridge, size)


@given(st.integers(0, 32_766), st.integers(0, 32_766), st.integers(1, MAX_FRAME))
def test_from_every_quiet_state_a_frame_takes_three_steps_at_most(own: int, others: int, frame: int) -> None:
    """Two pumps and the frame. A quiet window lacks what was consumed and makes no lump yet."""
    agent = Agent(1)
    if own:
        agent.frame(0, own)
    if others > own:
        agent.body(others - own)
    assert deliver(agent, 0, frame) <= 3


@given(st.integers(0, 32_766))
def test_a_frame_of_the_safe_size_needs_no_pump_in_a_quiet_state(consumed: int) -> None:
    agent = Agent(1)
    if consumed:
        agent.frame(0, consumed)
    assert deliver(agent, 0, ALWAYS_FITS) == 1


def test_a_frame_larger_than_any_window_is_never_begun() -> None:
    assert next_step(LUMPY_WINDOW, LUMPY_WINDOW, MAX_FRAME) == Step(Move.SEND)
    assert next_step(LUMPY_WINDOW, LUMPY_WINDOW, MAX_FRAME + 1) == Step(Move.TOO_BIG)


@pytest.mark.parametrize(
    "stream, connection", [(32_768, 65_535), (100, 65_535), (65_535, 32_768), (40_000, 5_000)]
)
def test_bytes_that_are_not_consumed_are_waited_for(stream: int, connection: int) -> None:
    assert next_step(stream, connection, 65_000) == Step(Move.WAIT)


@given(st.integers(2, LUMPY_WINDOW))
def test_pongs_are_as_long_as_asked_for_and_nothing_but_pongs(size: int) -> None:
    data = pongs(size)
    reader = FrameReader(masked=False)
    assert len(data) == size
    assert {piece.opcode for piece in reader.read(data)} == {PONG} and reader.broken is None
