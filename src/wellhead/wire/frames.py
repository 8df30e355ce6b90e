"""Frames of the native carrier.

::

     0        8       16       24       32
    +--------+--------+--------+--------+
    |          length          |  kind  |   length: bytes of payload; kind: END 0x80, reserved 0x40, kind 0x3f
    +--------+--------+--------+--------+
    |             stream id             |   0 names the session itself
    +--------+--------+--------+--------+
    |            payload ...            |

All numbers are big endian. ``wire.mux`` reads frames with plain integers; the records here are for
whoever is not in a hurry (hello, tests, tools).

Source: docs/reference/wire.md, "Frames".
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from wellhead.errors import FrameError

HEADER = struct.Struct("!II")
HEADER_SIZE = 8  # bytes
END = 0x80  # flag on OPEN, DATA and HEAD: the sender's half is complete
RESERVED = 0x40  # flag without a meaning yet

MAX_DATA = 256 * 1024  # bytes of payload of DATA
MAX_HEAD = 64 * 1024  # bytes of an envelope or a head
MAX_FIRST = 64 * 1024  # body bytes beside an envelope or a head
MAX_MESSAGE = 4 + MAX_HEAD + MAX_FIRST  # bytes of payload of OPEN and HEAD
MAX_HELLO = 4 * 1024  # bytes of payload of HELLO
MAX_ANSWER = 64 * 1024  # bytes of payload of WELCOME and REFUSED
MAX_TEXT = 1024  # bytes of the text of GOAWAY


class Kind(enum.IntEnum):
    """What a frame is for."""

    OPEN = 1  # payload: u8 stream kind, u24 length, envelope, first body bytes
    DATA = 2  # payload: body bytes
    HEAD = 3  # payload: u8 head kind, u24 length, head, first body bytes
    RESET = 4  # payload: u32 reason
    CREDIT = 5  # payload: u32 bytes that may be sent on top
    PING = 6  # payload: 8 opaque bytes
    PONG = 7  # payload: those of the PING
    GOAWAY = 8  # payload: u32 reason, u32 milliseconds, text
    HELLO = 16  # payload: JSON
    WELCOME = 17  # payload: JSON
    REFUSED = 18  # payload: JSON


LIMITS: dict[int, int] = {
    Kind.OPEN: MAX_MESSAGE,
    Kind.DATA: MAX_DATA,
    Kind.HEAD: MAX_MESSAGE,
    Kind.RESET: 4,
    Kind.CREDIT: 4,
    Kind.PING: 8,
    Kind.PONG: 8,
    Kind.GOAWAY: 8 + MAX_TEXT,
    Kind.HELLO: MAX_HELLO,
    Kind.WELCOME: MAX_ANSWER,
    Kind.REFUSED: MAX_ANSWER,
}
"""Longest payload by kind, in bytes."""

_FLAGGED = frozenset({Kind.OPEN, Kind.DATA, Kind.HEAD})


class Frame(NamedTuple):
    """One frame, whole."""

    kind: Kind
    stream_id: int
    payload: bytes = b""
    end: bool = False

    def encode(self) -> bytes:
        """The bytes on the wire."""
        flags = END if self.end else 0
        return HEADER.pack(len(self.payload) << 8 | flags | self.kind, self.stream_id) + self.payload


def check_header(word: int) -> tuple[Kind, bool, int]:
    """Kind, END flag and payload length of the first 32 bits of a frame.

    Raises:
        FrameError: an unknown kind or flag, or a payload that is too long for its kind.
    """
    number, length = word & 0x7F, word >> 8
    limit = LIMITS.get(number)
    if limit is None:
        raise FrameError(f"frame kind 0x{word & 0xFF:02x} is not known")
    kind = Kind(number)
    if word & END and kind not in _FLAGGED:
        raise FrameError(f"END flag on a frame of kind {kind.name}")
    if length > limit:
        raise FrameError(f"{kind.name} payload of {length} bytes, at most {limit} allowed")
    return kind, bool(word & END), length


def read_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Every whole frame in ``data``, and the bytes after the last of them.

    Raises:
        FrameError: as ``check_header``.
    """
    frames = []
    start = 0
    while len(data) - start >= HEADER_SIZE:
        word, stream_id = HEADER.unpack_from(data, start)
        kind, end, length = check_header(word)
        stop = start + HEADER_SIZE + length
        if stop > len(data):
            break
        frames.append(Frame(kind, stream_id, data[start + HEADER_SIZE : stop], end))
        start = stop
    return frames, data[start:]
