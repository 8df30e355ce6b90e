"""What a client is told of what is in a sandbox, and of how commands in it ended."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from wellhead.errors import CommandFailed, CommandTimeout
from wellhead.model.sandbox_records import PortLink
from wellhead.model.sandbox_records import Sandbox as SandboxInfo
from wellhead.model.visibility import Visibility

__all__ = [
    "Background",
    "Channel",
    "ExecResult",
    "Exit",
    "FileEntry",
    "FileType",
    "MetricPoint",
    "Output",
    "PortInfo",
    "PortLink",
    "ProcessInfo",
    "ProcessKind",
    "SandboxInfo",
]


class FileType(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"  # a device, a socket, a pipe


@dataclass(frozen=True, slots=True)
class FileEntry:
    name: str
    path: str  # absolute
    type: FileType
    size: int  # bytes
    mode: int  # permission bits
    owner: str
    group: str
    modified_at: datetime
    symlink_target: str | None = None


class ProcessKind(enum.Enum):
    EXEC = "exec"
    BACKGROUND = "background"
    TERMINAL = "terminal"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process that was started from outside, and has not exited."""

    pid: int
    tag: str | None = None
    cmd: str = ""
    args: Sequence[str] | None = None
    kind: ProcessKind = ProcessKind.EXEC
    user: str | None = None
    started_at: datetime | None = None

    @property
    def argv(self) -> list[str]:
        return [self.cmd, *(self.args or ())]


@dataclass(frozen=True, slots=True)
class PortInfo:
    """A TCP port that is listened on in a sandbox, and the process behind it, where that may be seen.

    ``visibility`` and ``url`` are by the sandbox's record, as it was last heard of.
    """

    port: int
    address: str = ""
    pid: int | None = None
    command: str | None = None  # its program
    argv: Sequence[str] | None = None
    user: str | None = None
    visibility: Visibility | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What a sandbox took at a moment; ``cpu_percent`` of the processors that it may use."""

    at: Annotated[datetime, Field(validation_alias="timestamp_unix")]
    cpu_percent: Annotated[float, Field(validation_alias="cpu_pct")] = 0.0
    memory_bytes: Annotated[int, Field(validation_alias="mem_bytes")] = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended, and all that it wrote. ``exit_code`` is None where the ``signal`` ended it."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    signal: int | None = None

    @property
    def text(self) -> str:
        """The standard output as UTF-8; what is none is shown as an escape."""
        return self.stdout.decode("utf-8", "backslashreplace")

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def check(self) -> ExecResult:
        """Itself.

        Raises:
            CommandFailed: the exit code is not 0.
        """
        if self.ok:
            return self
        how = f"exit code {self.exit_code}" if self.signal is None else f"signal {self.signal}"
        raise CommandFailed(
            f"the command ended with {how}",
            stdout=self.stdout,
            stderr=self.stderr,
            exit_code=self.exit_code,
            signal=self.signal,
        )


class Channel(enum.IntEnum):
    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a command wrote, as it was written."""

    channel: Channel
    data: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by itself with ``exit_code``, or by a ``signal``."""

    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False

    @property
    def status(self) -> int:
        """What a shell would say: 128 and more for a signal."""
        if self.signal is not None:
            return 128 + self.signal
        return self.exit_code if self.exit_code is not None else 1

    def result(self, stdout: bytes, stderr: bytes) -> ExecResult:
        """
        Raises:
            CommandTimeout: its time was over.
        """
        if self.timed_out:
            raise CommandTimeout(
                "the command did not end in its time, and was killed",
                stdout=stdout,
                stderr=stderr,
                signal=self.signal,
            )
        return ExecResult(stdout, stderr, self.exit_code, self.signal)


@dataclass(frozen=True, slots=True)
class Background:
    """A process that runs on by itself."""

    pid: int
    tag: str | None = None
