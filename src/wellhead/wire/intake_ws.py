"""Bridges of the HTTP/2 carrier: the two layers in the DATA of an extended CONNECT.

::

    DATA ── OuterDecoder ─> payload bytes ── EnvelopeDecoder ─> messages      (a WebSocket)
                                   └───────────────────────────> TCP bytes

The outer layer are RFC 6455 frames, masked where the agent speaks. In a WebSocket's bridge their
payloads, put together, are envelopes: a length of four bytes, big-endian, and that much JSON.

Source: docs/reference/h2-carrier.md, "Bridges".
"""

from __future__ import annotations

import binascii
import json
from json.encoder import encode_basestring

from wellhead.wire.streams import Buffer
from wellhead.wire.ws import MESSAGE_TOO_BIG, PROTOCOL_ERROR
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    NO_STATUS,
    PING,
    PONG,
    TEXT,
    Binary,
    Broken,
    Close,
    Event,
    FrameReader,
    Ping,
    Text,
    frame,
    may_be_spoken,
    read_close,
)

GOING_WRONG = 1011
_NORMAL = 1000
_MAX_REASON = 123  # bytes
_PREFIX = 4  # bytes of an envelope's length


class OuterDecoder:
    """Reads the outer layer of one direction: ``Binary`` events carry bytes as they come, not messages.

    ``masked``: True where frames must be masked, None where they need not be. ``text``: a text frame counts
    as a binary one, else it breaks the rules.
    """

    __slots__ = ("_frames", "_over", "_text")

    def __init__(self, *, masked: bool | None, text: bool = True) -> None:
        self._frames = FrameReader(masked=masked)
        self._over = False
        self._text = text

    def receive(self, data: Buffer) -> list[Event]:
        """What ``data`` brought; behind Close and Broken nothing comes."""
        events: list[Event] = []
        if self._over:
            return events
        for opcode, payload, _ in self._frames.read(data):
            if opcode == BINARY or (opcode == TEXT and self._text):
                if payload:
                    events.append(Binary(payload))
            elif opcode == PING:
                events.append(Ping(bytes(payload)))
            elif opcode != PONG:
                self._over = True
                events.append(
                    read_close(bytes(payload)) if opcode == CLOSE else Broken(PROTOCOL_ERROR, "text-frame")
                )
                return events
        if self._frames.broken is not None:
            self._over = True
            events.append(self._frames.broken)
        return events


def outer_frame(payload: Buffer, *, mask: bytes | None, opcode: int = BINARY) -> bytes:
    """One frame of the outer layer; ``mask``: four bytes where the agent speaks."""
    return frame(opcode, payload, mask)


class EnvelopeDecoder:
    """Puts envelopes together: ``Text``, ``Binary`` and ``Close`` as they were meant.

    ``max_envelope``: bytes of JSON. Envelopes that mean nothing are dropped and counted.
    """

    __slots__ = ("_begun", "_max", "_need", "_over", "dropped")

    def __init__(self, max_envelope: int) -> None:
        self.dropped = 0
        self._max = max_envelope
        self._begun = bytearray()  # of the envelope that is not complete
        self._need = _PREFIX  # bytes of it until something can be said
        self._over = False

    @property
    def unfinished(self) -> int:
        """Bytes that were received and belong to no message yet."""
        return len(self._begun)

    def receive(self, data: Buffer) -> list[Event]:
        """What ``data`` completed; behind Close and Broken nothing comes."""
        events: list[Event] = []
        if self._over:
            return events
        if self._begun or len(data) < self._need:
            self._begun += data
            if len(self._begun) < self._need:
                return events
            data, self._begun = bytes(self._begun), bytearray()
        at, size = 0, len(data)
        self._need = _PREFIX
        while size - at >= self._need:
            behind = at + self._need
            if self._need == _PREFIX:
                length = int.from_bytes(data[at:behind], "big")
                if length > self._max:
                    return self._end(events, Broken(MESSAGE_TOO_BIG, "envelope-too-big"))
                if length:
                    self._need += length
                    continue
            event = _read(bytes(data[at + _PREFIX : behind]))
            at = behind
            self._need = _PREFIX
            if event is None:
                self.dropped += 1
            elif isinstance(event, Close):
                return self._end(events, event)
            else:
                events.append(event)
        self._begun += data[at:]
        return events

    def _end(self, events: list[Event], last: Event) -> list[Event]:
        self._over = True
        events.append(last)
        return events


def _read(body: bytes) -> Event | None:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(envelope, dict):
        return None
    kind, data = envelope.get("type"), envelope.get("data")
    if kind == "close":
        code, reason = envelope.get("code"), envelope.get("reason")
        if isinstance(code, bool) or not isinstance(code, int):
            code = NO_STATUS
        return Close(code, _utf8(reason).decode() if isinstance(reason, str) else "")
    if not isinstance(data, str):
        return None
    if kind == "text":
        return Text(_utf8(data))
    if kind == "binary":
        try:
            return Binary(binascii.a2b_base64(data, strict_mode=True))
        except ValueError:
            return None
    return None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a pair, as JavaScript writes it: what a WebSocket makes of one
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def text_envelope(data: bytes) -> bytes:
    """A whole text message, UTF-8."""
    return _enveloped(b'{"type":"text","data":%b}' % encode_basestring(data.decode()).encode())


def binary_envelope(data: Buffer) -> bytes:
    """A whole binary message."""
    return _enveloped(b'{"type":"binary","data":"%b"}' % binascii.b2a_base64(data, newline=False))


def close_envelope(code: int, reason: str = "") -> bytes:
    """The end, with the code and reason that the other side of the bridge shall give its peer."""
    body = {"type": "close", "code": spoken_code(code), "reason": cut_reason(reason)}
    return _enveloped(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _enveloped(body: bytes) -> bytes:
    return len(body).to_bytes(_PREFIX, "big") + body


def spoken_code(code: int) -> int:
    """A close code that may be on the wire: this one, or what stands for it."""
    if may_be_spoken(code):
        return code
    return _NORMAL if code == NO_STATUS else GOING_WRONG


def cut_reason(reason: str) -> str:
    """As much of a close reason as a frame holds."""
    return _utf8(reason)[:_MAX_REASON].decode(errors="ignore")
