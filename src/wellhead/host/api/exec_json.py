"""wrenn's dialect of a command's output: text in JSON.

What is no UTF-8 becomes U+FFFD, for JSON has no bytes; a character that came in two pieces does not.

Source: wrenn-sandboxes, "Exec and processes".
"""

from __future__ import annotations

import codecs

from wellhead.errors import HostError, HostInvalid
from wellhead.host.api.bodies import read_members
from wellhead.host.api.dialect import KILLED, Message, Signal, Start, Wish, text
from wellhead.host.api.errors import message_of
from wellhead.host.guest_stream import Exited, GuestStream, Lost, Output, Told

_decoder = codecs.getincrementaldecoder("utf-8")


class ExecJson:
    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes
        self._decoders = {"stdout": _decoder("replace"), "stderr": _decoder("replace")}

    def read(self, message: Message) -> Wish | None:
        members = read_members(message)
        kind = members.text("type", "")
        if kind == "start":
            return Start(members)
        if kind == "stop":
            return Signal("KILL")
        if kind == "pong":
            return None
        raise HostInvalid('type is neither "start" nor "stop"')

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        return [text(type="start", pid=stream.pid)]

    def told(self, told: Told) -> list[Message]:
        if isinstance(told, Output):
            return self._decoded("stderr" if told.errors else "stdout", told.data)
        if isinstance(told, Lost):
            return []
        rests = [message for name in self._decoders for message in self._decoded(name, b"", True)]
        return [*rests, self._end(told)]

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        return [text(type="error", data=message_of(error))]

    def ping(self) -> list[Message]:
        return []

    def _decoded(self, name: str, data: bytes, final: bool = False) -> list[Message]:
        decoded = self._decoders[name].decode(data, final)
        return [text(type=name, data=decoded)] if decoded else []

    def _end(self, exited: Exited) -> Message:
        if exited.timed_out:
            return text(type="error", data="the command ran longer than its time-out, and was killed")
        return text(type="exit", exit_code=KILLED if exited.code is None else exited.code)
