"""Our dialect of terminals: output has numbers, so that a visitor who comes back gets what it missed.

Source: docs/reference/sandboxes-api.md, "wellhead.terminal.1".
"""

from __future__ import annotations

import struct

from wellhead.errors import HostError, HostInvalid
from wellhead.guest.pty import COLUMNS_MAX, ROWS_MAX
from wellhead.host.api.bodies import read_members
from wellhead.host.api.dialect import PING, Attach, Input, Message, Resize, Signal, Start, Wish, failure, text
from wellhead.host.guest_stream import GuestStream, Lost, Output, Told
from wellhead.model.text import shown

SUBPROTOCOL = "wellhead.terminal.1"

_offset = struct.Struct("!Q")
_OFFSET_MAX = 2**63 - 1


class PtyNative:
    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes
        self._next = 0  # offset of the byte that follows

    def read(self, message: Message) -> Wish | None:
        if isinstance(message, bytes):
            return Input(message)
        members = read_members(message)
        kind = members.text("type", "")
        if kind == "start":
            members.whole("cols", None, 1, COLUMNS_MAX)
            members.whole("rows", None, 1, ROWS_MAX)
            return Start(members)
        if kind == "attach":
            return Attach(members.text("tag"), members.whole("after", None, 0, _OFFSET_MAX))
        if kind == "resize":
            return Resize(members.size("cols"), members.size("rows"))
        if kind == "kill":
            return Signal("KILL")
        if kind == "pong":
            return None
        raise HostInvalid(f"unknown type {shown(kind)}")

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        self._next = stream.next
        if not attached:
            return [text(type="started", tag=stream.tag, pid=stream.pid)]
        return [
            text(
                type="attached", tag=stream.tag, pid=stream.pid, next=stream.next, lost=stream.lost,
                cols=stream.columns, rows=stream.rows,
            )
        ]  # fmt: skip

    def told(self, told: Told) -> list[Message]:
        if isinstance(told, Output):
            self._next = told.offset + len(told.data)
            return [_offset.pack(told.offset) + told.data]
        if isinstance(told, Lost):
            self._next += told.size
            return [text(type="lost", bytes=told.size, next=self._next)]
        return [text(type="exit", exit_code=told.code, signal=told.signal)]

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        return [failure(error, fatal)]

    def ping(self) -> list[Message]:
        return [PING]
