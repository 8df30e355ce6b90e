"""What is said on the WebSockets of commands and terminals: messages in and out, and what they come to.

No I/O: ``ExecTalk`` and ``TerminalTalk`` are told each message and say what is to be sent, for clients that
wait and for clients that await.

Source: docs/reference/sandboxes-api.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from websockets.typing import Subprotocol

from wellhead.client.calls import given
from wellhead.client.exchange import told_error
from wellhead.client.sandbox_calls import argv_of, signal_name
from wellhead.client.sandbox_records import Channel, Exit, Output
from wellhead.errors import InputError, ProtocolError


class ProgramOptions(TypedDict, total=False):
    """How a program is started: more of its environment, where, as whom (default: as the template says)."""

    env: Mapping[str, str] | None
    cwd: str | None
    user: str | None


class ExecOptions(ProgramOptions, total=False):
    """``timeout_seconds``: after them it is killed, with all that it started."""

    timeout_seconds: float | None


EXEC = Subprotocol("wellhead.exec.1")
TERMINAL = Subprotocol("wellhead.terminal.1")
INPUT_MAX = 32 * 1024  # bytes of input in a message; 64 KiB are taken
COLUMNS_MAX, ROWS_MAX = 1000, 500

_NUMBER = struct.Struct("!Q")
_CHANNELS = {int(channel): channel for channel in Channel}


class _Talk:
    """What both have in common: who is at the other end, what was lost, how it ended."""

    def __init__(self) -> None:
        self.pid = 0
        self.tag: str | None = None
        self.next = 0  # the number of the next byte of the output
        self.lost = 0  # bytes of the output that are gone
        self.opened = False  # the other end has said that it is there
        self.end: Exit | None = None

    def told(self, text: str) -> None:
        """Take a message in text.

        Raises:
            ApiError: it tells of an error.
            ProtocolError: it is none of this conversation.
        """
        try:
            message = json.loads(text)
            if not isinstance(message, dict):
                raise ProtocolError("a message of a sandbox is no JSON object")
            self._take(message)
        except (ValueError, TypeError, RecursionError) as error:
            raise ProtocolError("a message of a sandbox is not of this API") from error

    def _take(self, message: Mapping[str, Any]) -> None:
        match message.get("type"):
            case "started":
                self.pid, self.tag, self.opened = int(message["pid"]), _tag(message) or self.tag, True
            case "attached":
                self.pid, self.tag, self.opened = int(message["pid"]), _tag(message) or self.tag, True
                self._attached(int(message["next"]), int(message.get("lost") or 0))
            case "lost":
                self._passed(int(message["next"]))
            case "exit" | "exited":
                timed_out = message.get("timed_out") is True
                self.end = Exit(_number(message, "exit_code"), _number(message, "signal"), timed_out)
            case "error" if message.get("fatal") is not False:  # else what was wished for has passed already
                raise told_error(str(message.get("code") or ""), str(message.get("message") or ""))
            case _:
                pass  # a ping, or what a newer server says

    def _attached(self, number: int, lost: int) -> None:
        self.lost += lost
        self.next = number

    def _passed(self, number: int) -> None:
        """The output goes on with this byte: what would have come before it is gone."""
        self.lost += max(0, number - self.next)
        self.next = max(number, self.next)


class ExecTalk(_Talk):
    """A command whose output comes as it is written, or a background process that is listened to."""

    def start(
        self,
        command: str | Sequence[str],
        *,
        tag: str | None = None,
        stdin: bool = False,
        **options: Unpack[ExecOptions],
    ) -> str:
        """The first message.

        Raises:
            InputError: no command, or no such time.
        """
        seconds = options.get("timeout_seconds")
        if seconds is not None and not seconds > 0:
            raise InputError(f"timeout_seconds must be above 0, not {seconds:g}")
        return _text(
            type="start",
            argv=argv_of(command),
            env=_env(options),
            cwd=options.get("cwd"),
            user=options.get("user"),
            timeout_seconds=seconds,
            tag=tag,
            stdin=stdin,
        )

    def take(self, message: str | bytes) -> Output | None:
        """What was written, where the message brings some.

        Raises:
            ApiError, ProtocolError: as ``told``.
        """
        if isinstance(message, str):
            self.told(message)
            return None
        channel = _CHANNELS.get(message[0]) if message else None
        if channel is None:
            raise ProtocolError("a message of a command's output names no channel")
        self.next += len(message) - 1
        return Output(channel, message[1:])


class TerminalTalk(_Talk):
    """A terminal. Its output is numbered, so after a loss it goes on with the byte that was next."""

    def __init__(self, columns: int, rows: int, *, tag: str | None = None, after: int | None = None) -> None:
        super().__init__()
        self.columns, self.rows = check_size(columns, rows)
        self.tag = tag
        self.after = after
        self._resumes = False

    def start(self, command: str | Sequence[str] | None, **options: Unpack[ProgramOptions]) -> str:
        """The first message, for a new one; without a command it is the user's shell."""
        argv = None if command is None else argv_of(command)
        return _text(
            type="start",
            argv=argv,
            cols=self.columns,
            rows=self.rows,
            envs=_env(options),
            cwd=options.get("cwd"),
            user=options.get("user"),
            tag=self.tag,
        )

    def attach(self) -> str:
        """The first message, for one that is there."""
        return json.dumps({"type": "attach", "tag": self.tag, "after": self.after})

    def again(self) -> str:
        """The first message after a loss."""
        self.opened, self._resumes = False, True
        return json.dumps({"type": "attach", "tag": self.tag, "after": self.next})

    def _attached(self, number: int, lost: int) -> None:
        if self._resumes:
            self._passed(number)  # what came over the old connection in the meantime is not wanted again
        else:
            super()._attached(number, lost)

    def resize(self, columns: int, rows: int) -> str:
        """
        Raises:
            InputError: no such size.
        """
        self.columns, self.rows = check_size(columns, rows)
        return _text(type="resize", cols=columns, rows=rows)

    def take(self, message: str | bytes) -> bytes | None:
        """What was written, where the message brings some that is new.

        Raises:
            ApiError, ProtocolError: as ``told``.
        """
        if isinstance(message, str):
            self.told(message)
            return None
        if len(message) < _NUMBER.size:
            raise ProtocolError("a message of a terminal's output has no number")
        number, data = _NUMBER.unpack_from(message)[0], message[_NUMBER.size :]
        self._passed(number)
        data = data[self.next - number :]
        self.next += len(data)
        return data or None


def check_size(columns: int, rows: int) -> tuple[int, int]:
    """
    Raises:
        InputError: a terminal is never so wide, or so high.
    """
    if not (0 < columns <= COLUMNS_MAX and 0 < rows <= ROWS_MAX):
        raise InputError(
            f"a terminal of {columns} columns and {rows} rows: it has 1 to {COLUMNS_MAX}, and 1 to {ROWS_MAX}"
        )
    return columns, rows


def kill_message() -> str:
    """Kill what runs, with all that it started."""
    return _text(type="kill")


def signal_message(signal: str) -> str:
    """
    Raises:
        InputError: no such signal.
    """
    return _text(type="signal", signal=signal_name(signal).removeprefix("SIG"))


def input_messages(data: bytes) -> Iterator[bytes]:
    """Bytes for a command's standard input."""
    return (b"\0" + piece for piece in pieces(data))


END_OF_INPUT = b"\0"


def pieces(data: bytes) -> Iterator[bytes]:
    """The same bytes, in messages that are not too long.

    Raises:
        InputError: a text; how it is to be written as bytes is for the caller to say.
    """
    check_bytes(data)
    return (data[at : at + INPUT_MAX] for at in range(0, len(data), INPUT_MAX))


def check_bytes(data: object) -> None:
    """
    Raises:
        InputError: no bytes, a text for instance.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"bytes are sent, not {type(data).__name__}: encode a text first")


def _env(options: ProgramOptions) -> dict[str, str] | None:
    env = options.get("env")
    return None if env is None else dict(env)


def _tag(message: Mapping[str, Any]) -> str | None:
    tag = message.get("tag")
    return tag if isinstance(tag, str) else None


def _number(message: Mapping[str, Any], name: str) -> int | None:
    return None if message.get(name) is None else int(message[name])


def _text(**members: object) -> str:
    return json.dumps(given(**members))
