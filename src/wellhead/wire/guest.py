"""What a host and the program inside a sandbox tell each other, over a unix socket: frames.

One connection is one operation. The host sends a MESSAGE that says what is to be done; what follows depends
on it. A frame is a header of five bytes, length of the payload and kind, and the payload.

Source: docs/reference/guest.md.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator

from wellhead.errors import ProtocolError

_HEADER = struct.Struct("!IB")
_OFFSET = struct.Struct("!Q")
PAYLOAD_MAX = 256 * 1024  # bytes
MESSAGE_MAX = 256 * 1024


class GuestFrame(enum.IntEnum):
    MESSAGE = 0  # a JSON object
    INPUT = 1  # host to guest: for a process's standard input, a terminal, a file
    OUTPUT = 2  # guest to host: standard output, a file; of a terminal behind its number, see ``numbered``
    ERRORS = 3  # guest to host: standard error
    END = 4  # no more INPUT, or no more OUTPUT of a file; empty


def frame(kind: GuestFrame, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """The bytes of a frame."""
    return _HEADER.pack(len(payload), kind) + payload


def message(members: dict[str, object]) -> bytes:
    """The bytes of a MESSAGE."""
    return frame(GuestFrame.MESSAGE, json.dumps(members, separators=(",", ":")).encode())


def numbered(offset: int, data: bytes | memoryview) -> bytes:
    """The OUTPUT of a terminal; ``offset`` counts the bytes of its output that came before."""
    return _HEADER.pack(_OFFSET.size + len(data), GuestFrame.OUTPUT) + _OFFSET.pack(offset) + data


def read_numbered(payload: bytes) -> tuple[int, bytes]:
    """Offset and bytes of a terminal's OUTPUT."""
    if len(payload) < _OFFSET.size:
        raise ProtocolError(f"a terminal's output of {len(payload)} bytes has no number")
    return _OFFSET.unpack_from(payload)[0], payload[_OFFSET.size :]


def read_message(payload: bytes) -> dict[str, object]:
    """
    Raises:
        ProtocolError: no JSON object.
    """
    try:
        members = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a message is no JSON") from error
    if not isinstance(members, dict):
        raise ProtocolError("a message is no JSON object")
    return members


class GuestFrames:
    """Frames, out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def receive(self, data: bytes) -> Iterator[tuple[GuestFrame, bytes]]:
        """
        Raises:
            ProtocolError: an unknown kind, or a payload above its bound.
        """
        rest = self._rest
        rest += data
        at = 0
        view = memoryview(rest)  # so that a payload is copied once
        try:
            while len(rest) - at >= _HEADER.size:
                size, number = _HEADER.unpack_from(rest, at)
                if number > GuestFrame.END or size > PAYLOAD_MAX + _OFFSET.size:
                    raise ProtocolError(f"a frame of kind {number} and {size} bytes")
                if len(rest) - at - _HEADER.size < size:
                    break
                begin = at + _HEADER.size
                at = begin + size
                yield GuestFrame(number), bytes(view[begin:at])
        finally:
            view.release()
            del rest[:at]
