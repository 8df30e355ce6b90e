"""What a carrier made in one loop turn goes to its transport in one write."""

from __future__ import annotations

import asyncio

from wellhead.wire.streams import Buffer

JOIN_BELOW = 16 * 1024  # pieces smaller than this are copied together, larger ones are passed as they are


def write_joined(transport: asyncio.WriteTransport, pieces: list[Buffer]) -> None:
    """Write the pieces, of which there is at least one: few writes, no copy of a large payload."""
    if len(pieces) <= 2 or max(map(len, pieces)) < JOIN_BELOW:
        transport.write(b"".join(pieces))
    else:
        transport.writelines(_joined(pieces))


def _joined(pieces: list[Buffer]) -> list[Buffer]:
    """Runs of small pieces joined, large ones as they are."""
    out: list[Buffer] = []
    small: list[Buffer] = []
    for piece in pieces:
        if len(piece) < JOIN_BELOW:
            small.append(piece)
            continue
        if small:
            out.append(b"".join(small) if len(small) > 1 else small[0])
            small = []
        out.append(piece)
    if small:
        out.append(b"".join(small))
    return out
