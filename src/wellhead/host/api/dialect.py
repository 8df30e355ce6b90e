"""How a conversation about a process is put into WebSocket messages: what each dialect has to say and read.

A dialect holds no socket and no clock. Messages are text or bytes, as they go out and come in.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Protocol

from wellhead.errors import HostError
from wellhead.host.api.bodies import Members
from wellhead.host.api.errors import message_of
from wellhead.host.guest_stream import GuestStream, Told

Message = str | bytes

KILLED = -1  # wrenn's exit code of what a signal ended


class Start(NamedTuple):
    """Begin a process. ``members``: what the message says of it."""

    members: Members


class Attach(NamedTuple):
    """Listen to a terminal that is there; ``after`` None: to what comes from now."""

    tag: str
    after: int | None


class Input(NamedTuple):
    data: bytes


class EndInput(NamedTuple):
    """Nothing follows on standard input."""


class Resize(NamedTuple):
    columns: int
    rows: int


class Signal(NamedTuple):
    """``name`` without SIG; KILL is for all that the process started as well."""

    name: str


Wish = Start | Attach | Input | EndInput | Resize | Signal


class Dialect(Protocol):
    @property
    def message_bytes(self) -> int:
        """The longest message that is read."""

    def read(self, message: Message) -> Wish | None:
        """What a visitor wants; None: nothing.

        Raises:
            HostInvalid: a message that is none of this dialect.
        """

    def begun(self, stream: GuestStream, attached: bool) -> list[Message]:
        """What a visitor is told first."""

    def told(self, told: Told) -> list[Message]:
        """What a process wrote, or how it ended."""

    def failed(self, error: HostError, fatal: bool) -> list[Message]:
        """What went wrong; ``fatal``: nothing follows."""

    def ping(self) -> list[Message]:
        """That we are still there, where the dialect has a word for it."""


def text(**members: object) -> str:
    """A message in JSON."""
    return json.dumps(members, separators=(",", ":"))


def failure(error: HostError, fatal: bool) -> str:
    """What went wrong, in our own dialects."""
    return text(type="error", code=error.code, message=message_of(error), fatal=fatal)


PING = text(type="ping")
