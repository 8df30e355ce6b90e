"""What a host asks of the program inside a sandbox, and what that answers.

Each operation is a connection of its own. What the guest refuses is raised as the HostError that it stands
for; a guest that is gone, or says nothing in its time, is one too.

Source: docs/reference/guest.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wellhead.errors import HostError, HostTooLarge
from wellhead.host.guest_answers import expected, member, members, part, refusal
from wellhead.host.guest_call import GuestCall
from wellhead.host.guest_stream import GuestStream
from wellhead.wire.guest import GuestFrame

LISTED_MAX = 100_000  # entries of a list


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """Time-outs of a conversation with a guest."""

    dial_seconds: float = 5.0
    answer_seconds: float = 30.0  # for the first answer; of whole trees, see ``work_seconds``
    work_seconds: float = (
        300.0  # to list, remove or move what may be large, and to keep a file that was written
    )
    idle_seconds: float = 60.0  # without a byte, while a file is read


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be run. ``user``, ``cwd`` None: the template's own; ``env`` on top of the template's."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None

    def members(self) -> dict[str, object]:
        return {"argv": list(self.argv), "env": dict(self.env), "cwd": self.cwd, "user": self.user}


class GuestLink:
    """The guest that listens at ``path``. Every call may raise HostError."""

    def __init__(self, path: Path, terms: LinkTerms | None = None) -> None:
        self._path = path
        self._terms = terms or LinkTerms()

    # Processes

    async def run(
        self,
        command: Command,
        *,
        stdin: bool = False,
        timeout_seconds: float | None = None,
        tag: str | None = None,
    ) -> GuestStream:
        """A process in the foreground: it is killed, with all that it started, when the answer is closed."""
        asked = command.members() | {
            "do": "exec", "timeout_seconds": timeout_seconds, "tag": tag, "stdin": stdin, "background": False,
        }  # fmt: skip
        call, started = await self._begin(asked, "started")
        return GuestStream(call, started)

    async def start(self, command: Command, *, tag: str | None = None) -> tuple[int, str | None]:
        """A process in the background; its pid, and its tag."""
        asked = command.members() | {
            "do": "exec", "timeout_seconds": None, "tag": tag, "stdin": False, "background": True,
        }  # fmt: skip
        call, started = await self._begin(asked, "started")
        call.close()
        process = GuestStream(call, started)
        return process.pid, process.tag

    async def attach(self, selector: str, after: int | None = None) -> GuestStream:
        """The output of a process in the background.

        What is kept behind the number ``after``, and what follows; None: only what comes from now.
        """
        call, attached = await self._begin({"do": "attach", "selector": selector, "after": after}, "attached")
        return GuestStream(call, attached)

    async def processes(self) -> list[dict[str, object]]:
        """Those that run."""
        return await self._list({"do": "processes"}, "processes")

    async def signal(self, selector: str, signal: str) -> None:
        """``signal`` without SIG. KILL kills all that the process started as well."""
        await self._ask({"do": "signal", "selector": selector, "signal": signal})

    # Terminals

    async def terminal(
        self, command: Command, columns: int, rows: int, tag: str | None = None
    ) -> GuestStream:
        """A process at a new terminal; closing the answer leaves it running."""
        asked = command.members() | {"do": "terminal", "columns": columns, "rows": rows, "tag": tag}
        call, started = await self._begin(asked, "started")
        return GuestStream(call, started, terminal=True)

    async def terminal_attach(self, tag: str, after: int | None = None) -> GuestStream:
        """Another view of a terminal: what is kept behind ``after`` (0: all), None: what comes from now."""
        call, attached = await self._begin({"do": "terminal_attach", "tag": tag, "after": after}, "attached")
        return GuestStream(call, attached, terminal=True)

    # Files

    async def file_call(self, do: str, **asked: object) -> dict[str, object]:
        """stat, mkdir, remove or move; ``asked`` beside it are the call's own members."""
        return await self._ask({"do": do, **asked}, self._terms.work_seconds)

    def entries(
        self, path: str, user: str | None, depth: int
    ) -> AsyncGenerator[list[dict[str, object]], None]:
        """What is in a directory, and in those below it down to ``depth``, in lists as they come."""
        asked: dict[str, object] = {"do": "list", "path": path, "user": user, "depth": depth}
        return self._pages(asked, "entries", self._terms.work_seconds)

    @asynccontextmanager
    async def read(
        self, path: str, user: str | None, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[dict[str, object], AsyncIterator[bytes]]]:
        """What a file is, and its bytes."""
        asked: dict[str, object] = {
            "do": "read",
            "path": path,
            "user": user,
            "offset": offset,
            "length": length,
        }
        call, ok = await self._begin(asked, "ok")
        try:
            yield member(ok, "entry"), self._pieces(call)
        finally:
            call.close()

    async def _pieces(self, call: GuestCall) -> AsyncIterator[bytes]:
        while True:
            kind, payload = await call.frame(self._terms.idle_seconds)
            if kind is GuestFrame.END:
                return
            if kind is not GuestFrame.OUTPUT:
                raise refusal(kind, payload)
            yield payload

    @asynccontextmanager
    async def write(
        self, path: str, user: str | None, mode: int | None = None, size: int | None = None
    ) -> AsyncIterator[FileWrite]:
        """A file that is being written: whole after ``finish``, and as it was before without that."""
        call = await GuestCall.open(self._path, self._terms.dial_seconds)
        try:
            call.tell({"do": "write", "path": path, "user": user, "mode": mode, "size": size})
            yield FileWrite(call, self._terms.work_seconds)
        finally:
            call.close()

    async def ports(self) -> list[dict[str, object]]:
        """The TCP sockets that listen."""
        return await self._list({"do": "ports"}, "ports")

    # Inside

    async def _ask(self, asked: dict[str, object], seconds: float | None = None) -> dict[str, object]:
        call, ok = await self._begin(asked, "ok", seconds)
        call.close()
        return ok

    async def _list(self, asked: dict[str, object], name: str) -> list[dict[str, object]]:
        return [item async for page in self._pages(asked, name) for item in page]

    async def _pages(
        self, asked: dict[str, object], name: str, seconds: float | None = None
    ) -> AsyncGenerator[list[dict[str, object]], None]:
        """The list of an answer that may come in parts, part by part."""
        call, kind, payload = await self._opened(asked, seconds)
        count = 0
        try:
            while (more := part(kind, payload)) is not None:
                page = members(more, name)
                count += len(page)
                if count > LISTED_MAX:
                    raise HostTooLarge(f"a list of more than {LISTED_MAX} {name}")
                yield page
                kind, payload = await call.frame(seconds or self._terms.answer_seconds)
            yield members(expected(kind, payload, "ok"), name)
        finally:
            call.close()

    async def _begin(
        self, asked: dict[str, object], word: str, seconds: float | None = None
    ) -> tuple[GuestCall, dict[str, object]]:
        call, kind, payload = await self._opened(asked, seconds)
        try:
            return call, expected(kind, payload, word)
        except HostError:
            call.close()
            raise

    async def _opened(
        self, asked: dict[str, object], seconds: float | None
    ) -> tuple[GuestCall, GuestFrame, bytes]:
        """A conversation, and its first frame."""
        call = await GuestCall.open(self._path, self._terms.dial_seconds)
        try:
            call.tell(asked)
            return call, *await call.frame(seconds or self._terms.answer_seconds)
        except BaseException:
            call.close()
            raise


class FileWrite:
    """The bytes of a file on their way into a sandbox."""

    def __init__(self, call: GuestCall, seconds: float) -> None:
        self._call = call
        self._seconds = seconds

    async def send(self, data: bytes) -> None:
        """
        Raises:
            HostError: the guest takes no more; why.
        """
        if not self._call.waiting:
            try:
                await self._call.send(data)
            except HostError:
                if not self._call.waiting:
                    raise
        if self._call.waiting:  # it never speaks before the end, but to refuse
            raise refusal(*await self._call.frame(self._seconds))

    async def finish(self) -> dict[str, object]:
        """Put the file in its place; what it is now."""
        self._call.end()
        return member(expected(*await self._call.frame(self._seconds), "ok"), "entry")
