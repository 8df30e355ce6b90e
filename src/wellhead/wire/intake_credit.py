"""When a WebSocket envelope may be sent to an agent that credits late.

The Python SDK (hyper-h2) announces windows of 65,535 bytes, for each stream and for the connection, and
gives credit in lumps: once half of a window is consumed and not credited. Of a WebSocket's bytes only whole
envelopes are consumed. So an envelope that does not fit the windows as a whole is never finished, and its
bytes block every request body of the tunnel for good. The way out is to feed a window with bytes that are
consumed at once until the lump comes, and to send the envelope then, in one go.

Source: docs/reference/h2-carrier.md, "Credit".
"""

from __future__ import annotations

import enum
from typing import NamedTuple

LUMPY_WINDOW = 65_535  # bytes, of the agents that this is about
ALWAYS_FITS = 32_700  # bytes of a frame that a quiet connection takes without pumping
_RESERVE = 512  # bytes of a window that are left alone
MAX_FRAME = LUMPY_WINDOW - _RESERVE  # bytes of the longest frame that such an agent can be sent
HALF = 32_768  # bytes of a window at which its lump has become due
_SHORTEST, _PONG = 2, 127  # bytes of the shortest and the longest control frame


class Move(enum.Enum):
    SEND = "send"  # all DATA of the frame now, nothing between them
    PUMP_STREAM = "pump-stream"  # send ``size`` bytes of PONG frames on the bridge, see ``pongs``
    PUMP_CONNECTION = "pump-connection"  # answer a parked intake with ``size`` bytes and no request id
    TOO_BIG = "too-big"  # never: close the visitor with 1009
    WAIT = "wait"  # for credit


class Step(NamedTuple):
    move: Move
    size: int = 0  # bytes to pump


def next_step(stream: int, connection: int, frame: int) -> Step:
    """What to do with a frame of this length, while no other envelope is on its way on the connection.

    ``stream`` and ``connection`` are the bytes that the windows let us send.
    """
    if frame > MAX_FRAME:
        return Step(Move.TOO_BIG)
    if frame <= min(stream, connection):
        return Step(Move.SEND)
    if frame > stream:
        size = stream - HALF
        if size <= 0 or size > connection:
            return Step(Move.WAIT)
        return Step(Move.PUMP_STREAM, max(size, _SHORTEST))
    size = connection - HALF
    return Step(Move.PUMP_CONNECTION, size) if size > 0 else Step(Move.WAIT)


def pongs(size: int) -> bytes:
    """Unmasked PONG frames of ``size`` bytes together, at least 2: ignored on arrival, and consumed."""
    whole, rest = divmod(size, _PONG)
    sizes = [_PONG] * whole
    if rest == 1 and whole:
        sizes[-1] -= 1
        rest = 2
    if rest:
        sizes.append(max(rest, _SHORTEST))
    return b"".join([bytes((0x8A, one - 2)) + bytes(one - 2) for one in sizes])
