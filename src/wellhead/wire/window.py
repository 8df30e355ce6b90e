"""Flow-control arithmetic: how much may be on its way, when credit is owed, how far a window grows.

Each direction of each stream has a window of its own; the session has none, so a slow stream holds up
nobody else. ``wire.mux`` keeps the counters as plain integers in the stream, because a function call a
frame is dear there; everything that decides is here. For the receiving side of a stream this holds at
all times::

    size == room + owed + held

``size`` is the window, ``room`` what the peer may still send, ``held`` what has arrived and was not yet
consumed, ``owed`` what was consumed and not yet announced as credit. All in bytes.

Source: docs/reference/wire.md, "Windows".
"""

from __future__ import annotations

from wellhead.errors import FlowError

MIN_WINDOW = 16 * 1024
INITIAL_WINDOW = 256 * 1024
LARGEST_GROWN = 4 * 1024 * 1024  # a larger one fills queues on the way and slows everybody's keystrokes
NEAR_SECONDS = 0.005  # a round trip in which INITIAL_WINDOW is 50 MB/s: a nearer stream can wait for more
PROVEN_BYTES = 16 * 1024 * 1024  # more than the buffers behind us take: whoever took so much does read
BUSY_SECONDS = 0.002  # what two loops at work add to a round trip
MAX_CREDIT = 2**31 - 1  # no more may ever be allowed at once


def is_due(owed: int, size: int) -> bool:
    """Whether credit should be announced: when half a window is owed, so that frames stay few."""
    return owed * 2 >= size


def due(size: int, rtt_min: float | None) -> int:
    """Bytes owed from which on credit is announced: half a window, of a distant stream a quarter.

    What is owed and not announced is missing where the bytes come from, for a round trip. With half a window
    missing a lone stream gets half of what its window allows, looks as if it wanted no more, and never grows.
    """
    return -(-size // (4 if rtt_min is not None and rtt_min >= NEAR_SECONDS else 2))


def granted(credit: int, added: int) -> int:
    """The sender's credit after a CREDIT frame.

    Raises:
        FlowError: nothing is added, or more than MAX_CREDIT would be allowed.
    """
    if not added:
        raise FlowError("credit of 0 bytes")
    if credit + added > MAX_CREDIT:
        raise FlowError(f"credit of {added} bytes on top of {credit}, at most {MAX_CREDIT} allowed in all")
    return credit + added


def may_grow(taken: int, rtt_min: float) -> bool:
    """Whether a stream's window may be widened of which ``taken`` bytes were consumed in all.

    What a window allows is held when its reader stops. A near stream can do without more until its reader
    has shown that it reads; a distant one cannot.
    """
    return rtt_min >= NEAR_SECONDS or taken >= PROVEN_BYTES


def lag(taken: int, rtt_min: float, alone: bool) -> float:
    """Seconds between a byte's leaving and the credit for it, of a stream that consumed ``taken`` bytes.

    The smallest round trip was seen while nobody was busy. The credit of a bulk stream waits for what both
    ends do meanwhile: without room for that in its window, each end is idle while the other works. Others
    in the session would wait behind what fills that room, so only a stream ``alone`` in it has any.
    """
    return max(rtt_min, BUSY_SECONDS) if alone and taken >= PROVEN_BYTES else rtt_min


def fitted(size: int, count: int, seconds: float, rtt_min: float, smallest: int, largest: int) -> int:
    """The window that suits a stream of which ``count`` bytes were consumed in ``seconds``.

    Twice the bandwidth-delay product, the delay being the smallest round trip seen: a full queue on the
    way does not count as distance. At most it doubles in a step. It halves where a quarter would do: the
    window of a reader that has become slow is what it holds.
    """
    if seconds <= 0:
        return size
    wanted = 2 * count * rtt_min / seconds  # may be infinite
    if wanted >= size:
        return int(min(wanted, 2 * size, largest))
    return max(smallest, size // 2) if 4 * wanted < size and size > smallest else size
