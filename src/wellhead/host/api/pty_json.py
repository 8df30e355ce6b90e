"""wrenn's first dialect of terminals: everything in JSON, bytes in base64.

Source: wrenn-sandboxes, "PTY", dialect A.
"""

from __future__ import annotations

import base64

from wellhead.errors import HostError, HostInvalid
from wellhead.host.api.bodies import Members, read_members
from wellhead.host.api.dialect import KILLED, PING, Attach, Input, Message, Resize, Signal, Start, Wish, text
from wellhead.host.api.errors import message_of
from wellhead.host.guest_stream import Exited, GuestStream, Output, Told
from wellhead.model.text import shown


class PtyJson:
    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes

    def read(self, message: Message) -> Wish | None:
        members = read_members(message)
        if members.text("type", "") == "input":
            return Input(members.encoded("data") or b"")
        return read_control(members)

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        return started(stream)

    def told(self, told: Told) -> list[Message]:
        if isinstance(told, Output):
            return [text(type="output", data=base64.b64encode(told.data).decode())]
        return ended(told)

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        return failure(error, fatal)

    def ping(self) -> list[Message]:
        return [PING]


def read_control(members: Members) -> Wish | None:
    """What both of wrenn's dialects say in JSON. A size of 0 is no wish, and neither is a pong.

    Raises:
        HostInvalid: something else.
    """
    kind = members.text("type", "")
    if kind == "start":
        return Start(members)
    if kind == "connect":
        return Attach(members.text("tag"), None)
    if kind == "resize":
        columns, rows = members.size("cols"), members.size("rows")
        return Resize(columns, rows) if columns and rows else None
    if kind == "kill":
        return Signal("KILL")
    if kind == "pong":
        return None
    raise HostInvalid(f"unknown type {shown(kind)}")


def started(stream: GuestStream) -> list[Message]:
    return [text(type="started", tag=stream.tag, pid=stream.pid)]


def ended(told: Told) -> list[Message]:
    """How a terminal's program ended; of lost output nothing can be said."""
    if isinstance(told, Exited):
        return [text(type="exit", exit_code=KILLED if told.code is None else told.code)]
    return []


def failure(error: HostError, fatal: bool) -> list[Message]:
    if fatal:
        return [text(type="error", data=message_of(error), fatal=True)]
    return [text(type="error", data=message_of(error))]
