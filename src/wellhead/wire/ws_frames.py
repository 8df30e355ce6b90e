"""RFC 6455 frames, read as they come: the one judgement for everybody who looks inside.

``ws.FrameFollower`` reads headers that pass; this reads what is in the frames. No extensions.

Source: RFC 6455 sections 5 and 7.4.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.wire.masking import masked
from wellhead.wire.streams import Buffer
from wellhead.wire.ws import MAX_CONTROL, MESSAGE_TOO_BIG, PROTOCOL_ERROR

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
INVALID_PAYLOAD = 1007
NO_STATUS = 1005  # a Close without a code; never on the wire

_KNOWN = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


class Text(NamedTuple):
    """A whole text message."""

    data: bytes  # UTF-8, checked


class Binary(NamedTuple):
    """A whole binary message; of an outer layer: the next bytes."""

    data: Buffer


class Ping(NamedTuple):
    data: bytes  # for the Pong that is owed


class Close(NamedTuple):
    """The other side closes; nothing follows."""

    code: int  # NO_STATUS if it said none
    reason: str


class Broken(NamedTuple):
    """The other side broke a rule, or passed a limit; nothing follows."""

    code: int  # close code to send
    reason: str  # a constant word


Event = Text | Binary | Ping | Close | Broken


class Piece(NamedTuple):
    """Payload of a frame, unmasked: of a control frame always all, of a data frame as it comes."""

    opcode: int  # of a continuation: that of its message
    data: Buffer
    last: bool  # the message, or control frame, ends with it


class FrameReader:
    """Reads the frames of one direction.

    ``masked``: True where frames must be masked, False where they must not be, None for either.
    ``max_message``: payload bytes of one message, 0 for no limit.
    """

    __slots__ = (
        "_held",
        "_last",
        "_left",
        "_mask",
        "_masked",
        "_max",
        "_message",
        "_opcode",
        "broken",
        "idle",
    )

    def __init__(self, *, masked: bool | None, max_message: int = 0) -> None:
        self.broken: Broken | None = None  # set by ``read``: which rule ended it
        self.idle = 0  # frames so far that carried nothing: pings, pongs, empty ones
        self._masked = masked
        self._max = max_message
        self._held = b""  # of an incomplete header, or control frame
        self._left = 0  # payload bytes of the current data frame still to come
        self._last = True  # it ends its message
        self._mask = b""
        self._opcode = CONTINUATION  # of the message that is open; CONTINUATION: none
        self._message = 0  # payload bytes of it so far announced

    def read(self, data: Buffer) -> list[Piece]:
        """What ``data`` holds; a rule that it breaks comes behind, in ``broken``, and nothing after that."""
        pieces: list[Piece] = []
        if self.broken is not None:
            return pieces
        if self._held:
            data = self._held + data
            self._held = b""
        at, size = 0, len(data)
        while at < size:
            if self._left:
                at = self._take(data, at, pieces)
                continue
            behind = self._frame(data, at, pieces)
            if not behind:
                if self.broken is None:
                    self._held = bytes(data[at:])
                break
            at = behind
        return pieces

    def _take(self, data: Buffer, at: int, pieces: list[Piece]) -> int:
        part = data[at : at + self._left]
        self._left -= len(part)
        if self._mask:
            turn = len(part) & 3
            part, self._mask = masked(part, self._mask), self._mask[turn:] + self._mask[:turn]
        last = self._last and not self._left
        pieces.append(Piece(self._opcode, part, last))
        if last:
            self._opcode = CONTINUATION
        return at + len(part)

    def _frame(self, data: Buffer, at: int, pieces: list[Piece]) -> int:
        """Begin a frame; the index behind its header, or behind a control frame; 0: more bytes are needed."""
        have = len(data) - at
        if have < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        if not self._check(first, second):
            return 0
        wide = (0, 2, 8)[(length > 125) + (length > 126)]
        size = 2 + wide + (4 if second & 0x80 else 0)
        if have < size:
            return 0
        if wide:
            length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
            if length < (126 if wide == 2 else 65536) or length >> 63:
                return self._break(PROTOCOL_ERROR, "padded-length")
        mask = bytes(data[at + 2 + wide : at + size])
        at += size
        if opcode & 8:
            if have < size + length:
                return 0
            payload = data[at : at + length]
            self.idle += 1
            pieces.append(Piece(opcode, bytes(masked(payload, mask) if mask else payload), True))
            return at + length
        self._message = length if opcode else self._message + length
        if self._max and self._message > self._max:
            return self._break(MESSAGE_TOO_BIG, "message-too-big")
        self._opcode = opcode or self._opcode
        self._left, self._last, self._mask = length, first >= 0x80, mask
        if not length:
            self.idle += 1
            pieces.append(Piece(self._opcode, b"", self._last))
            if self._last:
                self._opcode = CONTINUATION
        return at

    def _check(self, first: int, second: int) -> bool:
        """Judge the first two bytes of a frame."""
        opcode = first & 0x0F
        if first & 0x70:
            return bool(self._break(PROTOCOL_ERROR, "reserved-bits"))
        if opcode not in _KNOWN:
            return bool(self._break(PROTOCOL_ERROR, "opcode"))
        if self._masked is not None and bool(second & 0x80) is not self._masked:
            return bool(self._break(PROTOCOL_ERROR, "mask"))
        if opcode & 8:
            if first < 0x80:
                return bool(self._break(PROTOCOL_ERROR, "fragmented-control"))
            if second & 0x7F > MAX_CONTROL:
                return bool(self._break(PROTOCOL_ERROR, "long-control"))
        elif bool(opcode) == bool(self._opcode):
            return bool(self._break(PROTOCOL_ERROR, "continuation"))
        return True

    def _break(self, code: int, reason: str) -> int:
        self.broken = Broken(code, reason)
        return 0


def frame(opcode: int, payload: Buffer, mask: bytes | None = None) -> bytes:
    """One whole frame. ``mask``: four bytes where a client speaks."""
    size = len(payload)
    bit = 0x80 if mask is not None else 0
    if size < 126:
        header = bytes((0x80 | opcode, bit | size))
    elif size < 65536:
        header = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    if mask is None:
        return b"".join((header, payload))
    return b"".join((header, mask, masked(payload, mask)))


def read_close(payload: bytes) -> Close | Broken:
    """Judge the payload of a Close frame."""
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not may_be_spoken(code):
        return Broken(PROTOCOL_ERROR, "close-code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Broken(INVALID_PAYLOAD, "utf-8")


def may_be_spoken(code: int) -> bool:
    """Whether a close code may be on the wire (RFC 6455 section 7.4, and its registry)."""
    return 1000 <= code <= 1014 and code not in (1004, 1005, 1006) or 3000 <= code <= 4999
