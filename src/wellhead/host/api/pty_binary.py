"""wrenn's second dialect of terminals: control in JSON as in the first, bytes as bytes.

Source: wrenn-sandboxes, "PTY", dialect B.
"""

from __future__ import annotations

from wellhead.errors import HostError
from wellhead.host.api.bodies import read_members
from wellhead.host.api.dialect import PING, Input, Message, Wish
from wellhead.host.api.pty_json import ended, failure, read_control, started
from wellhead.host.guest_stream import GuestStream, Output, Told


class PtyBinary:
    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes

    def read(self, message: Message) -> Wish | None:
        if isinstance(message, bytes):
            return Input(message)
        return read_control(read_members(message))

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        return started(stream)

    def told(self, told: Told) -> list[Message]:
        return [told.data] if isinstance(told, Output) else ended(told)

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        return failure(error, fatal)

    def ping(self) -> list[Message]:
        return [PING]
