"""Our dialect of a command: control in JSON, bytes behind the number of their channel.

Source: docs/reference/sandboxes-api.md, "wellhead.exec.1".
"""

from __future__ import annotations

from wellhead.errors import HostError, HostInvalid
from wellhead.host.api.bodies import check_signal, read_members
from wellhead.host.api.dialect import PING, EndInput, Input, Message, Signal, Start, Wish, failure, text
from wellhead.host.guest_stream import GuestStream, Lost, Output, Told

SUBPROTOCOL = "wellhead.exec.1"

_STDIN = 0
_OUTPUT = b"\x01"
_ERRORS = b"\x02"


class ExecNative:
    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes
        self._offset = 0  # of the bytes that come next

    def read(self, message: Message) -> Wish | None:
        if isinstance(message, bytes):
            if not message or message[0] != _STDIN:
                raise HostInvalid(f"channel {message[0] if message else 'none'}, only 0 is written to")
            return Input(message[1:]) if len(message) > 1 else EndInput()
        members = read_members(message)
        kind = members.text("type", "")
        if kind == "start":
            return Start(members)
        if kind == "kill":
            return Signal("KILL")
        if kind == "signal":
            return Signal(check_signal(members.text("signal")))
        if kind == "pong":
            return None
        raise HostInvalid('type is none of "start", "signal", "kill"')

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        self._offset = stream.next
        if attached:
            return [text(type="attached", pid=stream.pid, tag=stream.tag, next=stream.next, lost=stream.lost)]
        return [text(type="started", pid=stream.pid, tag=stream.tag)]

    def told(self, told: Told) -> list[Message]:
        if isinstance(told, Output):
            self._offset += len(told.data)
            return [(_ERRORS if told.errors else _OUTPUT) + told.data]
        if isinstance(told, Lost):
            self._offset += told.size
            return [text(type="lost", bytes=told.size, next=self._offset)]
        return [text(type="exited", exit_code=told.code, signal=told.signal, timed_out=told.timed_out)]

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        return [failure(error, fatal)]

    def ping(self) -> list[Message]:
        return [PING]
