"""A WebSocket's bytes as whole messages, for a carrier that knows nothing smaller.

Source: RFC 6455 sections 5.4, 5.5 and 5.6.
"""

from __future__ import annotations

from wellhead.wire.streams import Buffer
from wellhead.wire.ws_frames import (
    CLOSE,
    INVALID_PAYLOAD,
    PING,
    PONG,
    TEXT,
    Binary,
    Broken,
    Event,
    FrameReader,
    Ping,
    Text,
    read_close,
)


class MessageReader:
    """Reads one direction: fragments are put together, every Ping is told so that it can be answered.

    ``from_client``: its frames must be masked, else they must not be. ``max_message``: bytes of one message.
    """

    __slots__ = ("_frames", "_over", "_parts")

    def __init__(self, *, from_client: bool, max_message: int) -> None:
        self._frames = FrameReader(masked=from_client, max_message=max_message)
        self._parts: list[Buffer] = []
        self._over = False

    def receive(self, data: Buffer) -> list[Event]:
        """What ``data`` brought; behind Close and Broken nothing comes."""
        events: list[Event] = []
        if self._over:
            return events
        for opcode, payload, last in self._frames.read(data):
            event: Event
            if opcode == CLOSE:
                event = read_close(bytes(payload))
            elif opcode == PING:
                event = Ping(bytes(payload))
            elif opcode == PONG:
                continue
            else:
                self._parts.append(payload)
                if not last:
                    continue
                event = self._message(opcode)
            events.append(event)
            if opcode == CLOSE or isinstance(event, Broken):
                self._over = True
                return events
        if self._frames.broken is not None:
            self._over = True
            events.append(self._frames.broken)
        return events

    def _message(self, opcode: int) -> Event:
        parts, self._parts = self._parts, []
        data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        if opcode != TEXT:
            return Binary(data)
        try:
            data.decode()
        except UnicodeDecodeError:
            return Broken(INVALID_PAYLOAD, "utf-8")
        return Text(data)
