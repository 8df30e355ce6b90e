"""A process of a sandbox while it is listened to: what it writes, what it is sent, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wellhead.errors import HostError, ProtocolError
from wellhead.host.guest_answers import refusal
from wellhead.host.guest_call import GuestCall
from wellhead.wire.guest import GuestFrame, read_message, read_numbered

JOINED_BYTES = 64 * 1024  # of output that came in pieces, told as one


class Output(NamedTuple):
    """``errors``: of standard error; ``offset`` counts a terminal's bytes before these, else -1."""

    data: bytes
    errors: bool = False
    offset: int = -1


class Lost(NamedTuple):
    """Output that was written and is not kept any more, in bytes."""

    size: int


class Exited(NamedTuple):
    """``code`` None: it was ended by ``signal``."""

    code: int | None
    signal: int | None
    timed_out: bool


Told = Output | Lost | Exited


class GuestStream:
    """``begun``: what the guest said at first. A terminal's output has numbers, and is of one kind."""

    def __init__(self, call: GuestCall, begun: Mapping[str, object], *, terminal: bool = False) -> None:
        self._call = call
        self._terminal = terminal
        self._failure: HostError | None = None  # found behind output that is told first
        self.pid = _number(begun, "pid") or 0
        tag = begun.get("tag")
        self.tag = tag if isinstance(tag, str) else None
        self.next = _number(begun, "next") or 0  # offset of the first byte that follows
        self.lost = _number(begun, "lost") or 0  # bytes that were asked for and are gone
        self.columns = _number(begun, "columns") or 0
        self.rows = _number(begun, "rows") or 0

    async def told(self) -> list[Told]:
        """What came since the last time, in order, neighbours joined; the last of all is its end.

        Raises:
            HostError: the guest is gone, or says why there is no more.
        """
        if self._failure is not None:
            raise self._failure
        told: list[Told] = []
        try:
            for kind, payload in await self._call.frames():
                told.append(self._read(kind, payload))
            if not told:
                raise HostError("the sandbox ended the conversation")
        except HostError as error:
            if not told:
                raise
            self._failure = error
        return _joined(told)

    async def send(self, data: bytes) -> None:
        """Send input; waits while much of it is not taken.

        Raises:
            HostError: nobody takes it.
        """
        await self._call.send(data)

    def end_input(self) -> None:
        """Standard input ends."""
        self._call.end()

    def resize(self, columns: int, rows: int) -> None:
        """The size of the terminal."""
        self._call.tell({"resize": [columns, rows]})

    def close(self) -> None:
        """Listen no more. What runs in the foreground is killed, with all that it started."""
        self._call.close()

    def _read(self, kind: GuestFrame, payload: bytes) -> Told:
        try:
            if kind is GuestFrame.OUTPUT and self._terminal:
                offset, data = read_numbered(payload)
                return Output(data, False, offset)
            if kind in (GuestFrame.OUTPUT, GuestFrame.ERRORS):
                return Output(payload, kind is GuestFrame.ERRORS)
            message = read_message(payload) if kind is GuestFrame.MESSAGE else {}
        except ProtocolError as error:
            raise HostError(f"the sandbox broke the protocol: {error}") from None
        exited, lost = message.get("exited"), _number(message, "lost")
        if isinstance(exited, dict):
            return Exited(_number(exited, "code"), _number(exited, "signal"), exited.get("timed_out") is True)
        if lost is not None:
            return Lost(lost)
        raise refusal(kind, payload)


def _joined(told: list[Told]) -> list[Told]:
    """Neighbours of the same kind as one, up to JOINED_BYTES."""
    if len(told) < 2:
        return told
    joined: list[Told] = []
    pieces: list[bytes] = []
    first: Output | None = None
    size = 0

    def flush() -> None:
        if first is not None:
            joined.append(first._replace(data=b"".join(pieces)) if len(pieces) > 1 else first)

    for item in told:
        if not isinstance(item, Output):
            flush()
            first = None
            joined.append(item)
        elif (
            first is not None
            and item.errors == first.errors
            and size + len(item.data) <= JOINED_BYTES
            and (item.offset < 0 or item.offset == first.offset + size)
        ):
            pieces.append(item.data)
            size += len(item.data)
        else:
            flush()
            first, pieces, size = item, [item.data], len(item.data)
    flush()
    return joined


def _number(members: Mapping[str, object], name: str) -> int | None:
    found = members.get(name)
    return found if type(found) is int else None
