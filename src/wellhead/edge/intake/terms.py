"""The limits of agents on the HTTP/2 carrier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from wellhead.edge.intake.bridge import BridgeTerms
from wellhead.net.session import Liveness
from wellhead.wire.h2 import H2Terms

MAX_REPLY_LIST = 96 * 1024  # bytes of a header list of an agent's
HIGH_WATER, LOW_WATER = 64 * 1024, 16 * 1024  # bytes of an upload that wait for the agent's window
HEADS_AT_ONCE = 256  # streams that an agent may begin before it is everybody else's turn
GRACE_SECONDS = 2.0  # by which our deadline is later than the agent's own


@dataclass(frozen=True, slots=True)
class IntakeTerms:
    """The limits of the carrier. Seconds, bytes and counts, each named as its setting."""

    h2: H2Terms  # of an agent's connection
    bridge: BridgeTerms
    liveness: Liveness
    hello_seconds: float = 5.0
    drain_seconds: float = 30.0
    pool: int = 32
    idle_seconds: float = 300.0
    idle_answer: Literal["quiet", "408", "off"] = "quiet"
    deadline_seconds: float = 30.0
    wait_seconds: float = 5.0
    max_waiting: int = 256
    max_body_bytes: int = 32 * 1024 * 1024
    takeovers_per_minute: int = 10

    @property
    def answer_seconds(self) -> float:
        """For an agent's answer, from the end of the request: a little longer than it is told."""
        return self.deadline_seconds + GRACE_SECONDS


def agent_h2_terms(
    visitors: H2Terms, *, max_streams: int, window: int, connection_window: int, max_held: int
) -> H2Terms:
    """The limits of an agent's connection: ten times a visitor's rates, and heads as large as replies'."""
    return replace(
        visitors,
        max_streams=max_streams,
        window=max(window, visitors.window),
        connection_window=max(connection_window, visitors.connection_window),
        max_held=max_held,
        high_water=HIGH_WATER,
        low_water=LOW_WATER,
        heads_at_once=HEADS_AT_ONCE,
        max_block=2 * MAX_REPLY_LIST,
        max_list=MAX_REPLY_LIST,
        max_list_decoded=2 * MAX_REPLY_LIST,
        reset_burst=10 * visitors.reset_burst,
        resets_per_second=10 * visitors.resets_per_second,
        early_reset_streams=10 * visitors.early_reset_streams,
        violation_burst=10 * visitors.violation_burst,
        violations_per_second=10 * visitors.violations_per_second,
        settings_per_second=10 * visitors.settings_per_second,
        pings_per_second=10 * visitors.pings_per_second,
        max_control_replies=10 * visitors.max_control_replies,
        max_empty_in_a_row=10 * visitors.max_empty_in_a_row,
        empty_per_second=10 * visitors.empty_per_second,
        max_glitches=10 * visitors.max_glitches,
    )
