"""WebSockets, as far as a tunnel is concerned: the handshake, frame headers, and frames of our own.

Payload is opaque: extensions are negotiated end to end and nothing is unmasked, inflated or held.
``FrameFollower`` reads only the headers that pass, one of it for each direction.

::

     0               1               2               3
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |F|R|R|R| opcode|M|   length    |  length, 16 bits if 126,      |
    |I|S|S|S|  (4)  |A|    (7)      |  64 bits if 127               |
    |N|V|V|V|       |S|             +-------------------------------+
    | |1|2|3|       |K|             |  masking key, 32 bits if MASK |
    +-+-+-+-+-------+-+-------------+-------------------------------+

Source: RFC 6455 sections 4 and 5.
"""

from __future__ import annotations

import base64
import hashlib
import re

from wellhead.errors import HttpError, StateError, WebSocketError
from wellhead.wire.masking import masked
from wellhead.wire.request import RequestFields
from wellhead.wire.streams import Buffer

PROTOCOL_ERROR = 1002
POLICY_VIOLATION = 1008  # for callers: too many pings
MESSAGE_TOO_BIG = 1009

_CLOSE, _PING, _PONG = 8, 9, 10
_DATA = frozenset((0, 1, 2))
_CONTROL = frozenset((_CLOSE, _PING, _PONG))
MAX_CONTROL = 125  # bytes of payload
_MAX_HEADER = 14  # bytes
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SPOKEN_NEVER = frozenset((1004, 1005, 1006, 1015))  # RFC 6455 section 7.4.1

_key = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch  # 16 bytes in base64
_accept = re.compile(rb"\r\nsec-websocket-accept:[\t ]*+([^\r]*+)", re.IGNORECASE).findall


class FrameFollower:
    """Follows the frames of one direction, whatever the network chopped.

    ``from_client``: frames must be masked, else they must not be. ``extensions``: some were negotiated,
    so data frames may use the reserved bits. ``max_message``: payload bytes of one message as it
    travels, 0 for no limit.

    ``at_boundary``: what was forwarded so far ends with a frame, so one of ours may follow.
    ``closed``: a Close passed; nothing may follow it. ``pings``: pings and pongs so far.
    """

    __slots__ = (
        "_closing",
        "_held",
        "_left",
        "_masked",
        "_max",
        "_message",
        "_open",
        "_rsv",
        "closed",
        "pings",
    )

    def __init__(self, *, from_client: bool, extensions: bool = False, max_message: int = 0) -> None:
        self.closed = False
        self.pings = 0
        self._masked = 0x80 if from_client else 0
        self._rsv = 0 if extensions else 0x70  # reserved bits that data frames must not set
        self._max = max_message
        self._held = b""  # of an incomplete header
        self._left = 0  # payload bytes of the current frame still to come
        self._closing = False  # the current frame is a Close
        self._open = False  # a fragmented message is not complete
        self._message = 0  # payload bytes of the current message

    @property
    def at_boundary(self) -> bool:
        return not self._left and not self._held

    def feed(self, data: Buffer) -> int:
        """How many bytes of ``data`` may be forwarded: all of them, unless a Close ends among them.

        Raises:
            WebSocketError: 1002, 1009: nothing of ``data`` may be forwarded and the follower is of no
                more use, but ``at_boundary`` still speaks of what was forwarded before.
        """
        size = len(data)
        if self._left > size:  # fast path: inside a large frame
            self._left -= size
            return size
        if self.closed or not size:
            return 0
        at = self._left
        if at and self._closing:
            return self._closed_at(at)
        held = len(self._held)
        while at < size:
            header = self._held + data[:_MAX_HEADER] if held else data[at : at + _MAX_HEADER]
            length = self._frame(header)
            if not length:
                self._held, self._left = bytes(header), 0
                return size
            at += length - held
            held = 0
            if self._closing and at <= size:
                return self._closed_at(at)
        self._held, self._left = b"", at - size
        return size

    def _closed_at(self, at: int) -> int:
        self.closed = True
        self._held, self._left = b"", 0
        return at

    def _frame(self, header: Buffer) -> int:
        """Judge a frame by its header; its length with payload, or 0 while the header is incomplete."""
        have = len(header)
        if have < 2:
            return 0
        first, second = header[0], header[1]
        if second & 0x80 != self._masked:
            raise WebSocketError(PROTOCOL_ERROR, "mask")
        length = second & 0x7F
        size = 6 if self._masked else 2
        if length < 126:
            if have < size:
                return 0
        else:
            wide = 2 if length == 126 else 8
            size += wide
            if have < size:
                return 0
            length = _wide_length(header, wide)
        opcode = first & 0x0F
        if opcode in _DATA:
            self._data_frame(first, opcode, length)
        elif opcode in _CONTROL:
            self._control_frame(first, opcode, length)
        else:
            raise WebSocketError(PROTOCOL_ERROR, "opcode")
        return size + length

    def _data_frame(self, first: int, opcode: int, length: int) -> None:
        if first & self._rsv:
            raise WebSocketError(PROTOCOL_ERROR, "reserved-bits")
        if bool(opcode) == self._open:
            raise WebSocketError(PROTOCOL_ERROR, "continuation")
        self._open = first < 0x80
        if self._max:
            self._message = length if opcode else self._message + length
            if self._message > self._max:
                raise WebSocketError(
                    MESSAGE_TOO_BIG, "message-too-big", f"{self._message} bytes, at most {self._max} allowed"
                )

    def _control_frame(self, first: int, opcode: int, length: int) -> None:
        if first & 0x70:
            raise WebSocketError(PROTOCOL_ERROR, "reserved-bits")
        if first < 0x80:
            raise WebSocketError(PROTOCOL_ERROR, "fragmented-control")
        if length > MAX_CONTROL:
            raise WebSocketError(
                PROTOCOL_ERROR, "long-control", f"{length} bytes, at most {MAX_CONTROL} allowed"
            )
        if opcode != _CLOSE:
            self.pings += 1
        elif length == 1:
            raise WebSocketError(PROTOCOL_ERROR, "close-code")
        else:
            self._closing = True


def _wide_length(header: Buffer, wide: int) -> int:
    length = int.from_bytes(header[2 : 2 + wide], "big")
    if length < (126 if wide == 2 else 65536):
        raise WebSocketError(PROTOCOL_ERROR, "padded-length")
    if length >> 63:
        raise WebSocketError(PROTOCOL_ERROR, "length", "the highest bit is set")
    return length


def close_frame(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    """A Close frame; ``reason`` is cut to what fits. ``mask``: 4 random bytes where a client speaks.

    Raises:
        StateError: a code that must not be sent.
    """
    if code in _SPOKEN_NEVER or not 1000 <= code < 5000:
        raise StateError(f"close code {code} is never on the wire")
    text = reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore").encode()
    return _control(_CLOSE, code.to_bytes(2, "big") + text, mask)


def ping_frame(payload: bytes = b"", mask: bytes = b"") -> bytes:
    """A Ping frame of at most 125 bytes of payload."""
    if len(payload) > MAX_CONTROL:
        raise StateError(f"ping payload of {len(payload)} bytes, at most {MAX_CONTROL} allowed")
    return _control(_PING, payload, mask)


def _control(opcode: int, payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return bytes((0x80 | opcode, len(payload))) + payload
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked(payload, mask)


def accept_key(key: bytes) -> bytes:
    """What a server answers to a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_handshake(method: bytes, fields: RequestFields) -> None:
    """Judge a request with ``fields.websocket`` set.

    Raises:
        HttpError: 400, or 426 for another version: the answer then carries ``Sec-WebSocket-Version: 13``.
    """
    if method != b"GET":
        raise HttpError(400, "websocket-method")
    if fields.has_body:
        raise HttpError(400, "websocket-body")
    if fields.websocket_version != b"13":
        raise HttpError(426, "websocket-version")
    if not _key(fields.websocket_key):
        raise HttpError(400, "websocket-key")


def check_accept(fields: bytes, key: bytes) -> None:
    """Judge the field lines of a 101: they must answer the key of the request.

    Raises:
        HttpError: 502.
    """
    if _accept(b"\r\n" + fields) != [accept_key(key)]:
        raise HttpError(502, "websocket-accept")
