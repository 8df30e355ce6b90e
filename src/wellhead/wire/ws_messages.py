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

    __slots__ = ("_begun", "_frames", "_over")

    def __init__(self, *, from_client: bool, max_message: int) -> None:
        self._frames = FrameReader(masked=from_client, max_message=max_message)
        # Of the message that is open. A list of its pieces would cost a hundred bytes for each of one byte.
        self._begun = bytearray()
        self._over = False

    @property
    def idle(self) -> int:
        """Frames so far that carried nothing: pings, pongs and empty ones."""
        return self._frames.idle

    @property
    def unfinished(self) -> int:
        """Bytes that were received and belong to no whole message yet."""
        return len(self._begun)

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
                if not last:
                    self._begun += payload
                    continue
                event = self._message(opcode, payload)
            events.append(event)
            if opcode == CLOSE or isinstance(event, Broken):
                self._over = True
                return events
        if self._frames.broken is not None:
            self._over = True
            events.append(self._frames.broken)
        return events

    def _message(self, opcode: int, data: Buffer) -> Event:
        if self._begun:
            self._begun += data
            data, self._begun = bytes(self._begun), bytearray()
        else:
            data = bytes(data)
        if opcode != TEXT:
            return Binary(data)
        try:
            data.decode()
        except UnicodeDecodeError:
            return Broken(INVALID_PAYLOAD, "utf-8")
        return Text(data)
