"""What a peer may do to an HTTP/2 connection before it is told to calm down.

Pure: time is an argument, in seconds of any monotonic clock. Each budget has a constant word that names
it in logs and metrics; the error that ends the connection carries it.

=======================  ==========================================================================
``rapid-reset``          streams that the peer opens and resets
``made-you-reset``       violations that make us reset a stream
``settings-flood``       SETTINGS, each of which wants an answer
``ping-flood``           PING, likewise
``control-replies``      answers that wait because the peer does not read them
``empty-frames``         DATA and HEADERS that bring nothing and end nothing
``priority-flood``       PRIORITY
``window-update-flood``  WINDOW_UPDATE
``glitches``             small violations, each of which is forgiven
=======================  ==========================================================================

Source: CVE-2023-44487, CVE-2025-8671, CVE-2019-9511 to 9518; RFC 9113 section 10.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import ErrorCode


@dataclass(frozen=True, slots=True)
class H2Terms:
    """The limits of one connection. Sizes are bytes, times seconds."""

    max_streams: int = 100
    """Live streams that the peer may open; one more is refused."""
    running_share: float = 1.5
    """Times ``max_streams``: live streams and those whose work has not stopped yet, together."""
    linger_seconds: float = 1.0
    """For which a stream that was reset counts as running, unless ``H2Stream.stopped`` says it is not."""

    window: int = 256 * 1024
    """Of a stream: what the peer may send that was not consumed."""
    connection_window: int = 4 * 1024 * 1024
    """What the peer may send between two credits of the connection, which come at once."""
    max_held: int = 32 * 1024 * 1024
    """Received and not consumed, all streams; above it the stream that holds most is reset."""
    high_water: int = 64 * 1024
    """Of a stream: queued bytes above which its writer is asked to stop."""
    low_water: int = 16 * 1024
    """Of a stream: queued bytes at which its writer is asked to go on."""
    heads_at_once: int = 0
    """Header blocks that one ``receive`` takes in, see ``H2Connection.behind``; 0: all that came."""

    max_block: int = 32 * 1024
    """Encoded bytes of a header block."""
    max_continuations: int = 16
    """CONTINUATION frames of a header block."""
    max_list: int = 32 * 1024
    """Of a header list, as RFC 9113 section 6.5.2 counts; announced. Above it a request is answered 431."""
    max_list_decoded: int = 64 * 1024
    """Of a header list: above it the connection ends."""
    max_fields: int = 512
    """In a header list: above it the connection ends."""

    reset_burst: int = 200
    resets_per_second: float = 50
    """Resets by the peer."""
    early_reset_seconds: float = 1.0
    early_reset_share: float = 0.5
    early_reset_streams: int = 200
    """More than this share of at least so many streams reset within so many seconds is too many."""
    violation_burst: int = 100
    violations_per_second: float = 33
    """Violations that make us reset a stream."""
    settings_per_second: float = 50
    pings_per_second: float = 100
    max_control_replies: int = 1000
    """Answers of ours that wait to be written."""
    max_empty_in_a_row: int = 10
    empty_per_second: float = 100
    """DATA and HEADERS without content and END_STREAM."""
    updates_per_data: int = 10
    """WINDOW_UPDATE frames, in twos, for each DATA frame that we sent."""
    max_glitches: float = 100
    """The score of small violations; it halves each second."""

    stall_seconds: float = 60
    stall_bytes: int = 1024
    """A stream whose queued bytes wait for the peer's window has to move so many in so many seconds."""
    preface_seconds: float = 5
    """From the start to the peer's preface and SETTINGS."""
    settings_seconds: float = 10
    """For the peer to acknowledge our SETTINGS."""
    head_seconds: float = 10
    """From the first byte of a header block that was seen to its last."""
    drain_seconds: float = 2
    """Between the two steps of a drain, unless the peer's answer to a PING comes first."""
    opens_after_warning: bool = False
    """CLIENT: a GOAWAY that excludes no stream is a warning, behind which streams may still be opened.

    RFC 9113 section 6.8 asks clients not to: only where the peer is known to serve them.
    """
    last_id: int = 2**30
    """The stream id at which a connection is drained, before ids run out."""


class Bucket:
    """Allows ``burst`` at once and ``rate`` a second in the long run."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._level = 0.0
        self._at = 0.0

    def pour(self, now: float) -> bool:
        """Count one at ``now``; False: it is too many."""
        level = self._level - (now - self._at) * self._rate
        self._at = now
        self._level = level = (level if level > 0 else 0.0) + 1
        return level <= self._burst


class Guard:
    """The budgets of one connection. Every method counts one event, and raises H2Error when it is too many.

    Envoy's formulas for PRIORITY and WINDOW_UPDATE: in proportion to the streams there were and, for the
    latter, to the DATA frames we sent.
    """

    __slots__ = (
        "_empty",
        "_empty_row",
        "_early",
        "_glitches",
        "_glitches_at",
        "_opened",
        "_pings",
        "_priorities",
        "_resets",
        "_settings",
        "_terms",
        "_updates",
        "_violations",
        "data_sent",
    )

    def __init__(self, terms: H2Terms, before: Guard | None = None) -> None:
        # What some budgets are in proportion to; ``before`` was the connection's guard until now.
        self.data_sent: int = before.data_sent if before is not None else 0  # DATA frames of ours
        self._opened: int = before._opened if before is not None else 0
        self._terms = terms
        self._early = 0
        self._empty_row = 0
        self._priorities = 0
        self._updates = 0
        self._glitches = 0.0
        self._glitches_at = 0.0
        self._resets = Bucket(terms.reset_burst, terms.resets_per_second)
        self._violations = Bucket(terms.violation_burst, terms.violations_per_second)
        self._settings = Bucket(terms.settings_per_second, terms.settings_per_second)
        self._pings = Bucket(terms.pings_per_second, terms.pings_per_second)
        self._empty = Bucket(terms.empty_per_second, terms.empty_per_second)

    def opened(self) -> None:
        """A stream, by whichever side."""
        self._opened += 1

    def asked(self) -> None:
        """A stream, by the peer, with a frame that is not empty."""
        self._opened += 1
        self._empty_row = 0

    def reset(self, now: float, age: float) -> None:
        """The peer reset one of its streams, ``age`` seconds old."""
        terms = self._terms
        if not self._resets.pour(now):
            raise calm(
                "rapid-reset", f"more than {terms.reset_burst} and {terms.resets_per_second:g} a second"
            )
        if age < terms.early_reset_seconds:
            self._early += 1
            if (
                self._opened >= terms.early_reset_streams
                and self._early > terms.early_reset_share * self._opened
            ):
                raise calm("rapid-reset", f"{self._early} of {self._opened} streams")

    def violation(self, now: float) -> None:
        """The peer broke a rule of a stream, so that we reset it."""
        if not self._violations.pour(now):
            terms = self._terms
            raise calm(
                "made-you-reset",
                f"more than {terms.violation_burst} and {terms.violations_per_second:g} a second",
            )

    def glitch(self, now: float, weight: float = 1.0) -> None:
        """A small violation that has no other consequence."""
        score = self._glitches * 0.5 ** (now - self._glitches_at) + weight
        self._glitches, self._glitches_at = score, now
        if score > self._terms.max_glitches:
            raise calm("glitches", f"score above {self._terms.max_glitches:g}")

    def settings(self, now: float) -> None:
        """SETTINGS came."""
        if not self._settings.pour(now):
            raise calm("settings-flood", f"more than {self._terms.settings_per_second:g} a second")

    def ping(self, now: float) -> None:
        """PING came."""
        if not self._pings.pour(now):
            raise calm("ping-flood", f"more than {self._terms.pings_per_second:g} a second")

    def replies(self, waiting: int) -> None:
        """So many answers of ours wait to be written."""
        if waiting > self._terms.max_control_replies:
            raise calm("control-replies", f"more than {self._terms.max_control_replies} wait")

    def empty(self, now: float) -> None:
        """A frame came that brings nothing and ends nothing."""
        terms = self._terms
        self._empty_row += 1
        if self._empty_row > terms.max_empty_in_a_row or not self._empty.pour(now):
            raise calm(
                "empty-frames",
                f"more than {terms.max_empty_in_a_row} in a row or {terms.empty_per_second:g} a second",
            )

    def filled(self) -> None:
        """A frame came that is not empty."""
        self._empty_row = 0

    def priority(self) -> None:
        """PRIORITY came."""
        self._priorities += 1
        if self._priorities > 100 * (1 + self._opened):
            raise calm("priority-flood", f"{self._priorities} for {self._opened} streams")

    def window_update(self) -> None:
        """WINDOW_UPDATE came."""
        self._updates += 1
        if self._updates > 5 + 2 * (self._opened + self._terms.updates_per_data * self.data_sent):
            raise calm("window-update-flood", f"{self._updates} for {self.data_sent} DATA frames")


def calm(reason: str, detail: str) -> H2Error:
    """The error that ends a connection whose peer does too much of something."""
    return H2Error(ErrorCode.ENHANCE_YOUR_CALM, reason, detail)
