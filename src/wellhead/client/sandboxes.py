"""``client.sandboxes`` and what it gives out: a ``Sandbox`` in which commands run.

>>> with client.sandboxes.create("python") as sandbox:
...     print(sandbox.exec(["python3", "-c", "print(6 * 7)"]).text)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypedDict, Unpack, overload

from wellhead.client import port_calls, sandbox_calls
from wellhead.client.calls import Call
from wellhead.client.exec_streams import AsyncExecStream, ExecStream
from wellhead.client.own import AsyncLine, AsyncThing, Line, Own, T, Thing
from wellhead.client.sandbox_async_parts import AsyncFiles, AsyncProcesses
from wellhead.client.sandbox_calls import item
from wellhead.client.sandbox_parts import Files, Processes
from wellhead.client.sandbox_records import ExecResult, PortInfo, SandboxInfo
from wellhead.client.sockets import AsyncSocket, Socket
from wellhead.client.talks import EXEC, TERMINAL, ExecOptions, ExecTalk, ProgramOptions, TerminalTalk
from wellhead.client.terminals import AsyncTerminal, Terminal, ViewOptions
from wellhead.model.sandboxes import SandboxStatus
from wellhead.model.visibility import Visibility

P = ParamSpec("P")


class _SandboxCalls:
    """Told in ``sandbox_calls`` and ``port_calls``."""

    refresh = Own(sandbox_calls.get_sandbox)
    update = Own(sandbox_calls.update_sandbox)
    pause = Own(sandbox_calls.pause_sandbox)
    resume = Own(sandbox_calls.resume_sandbox)
    ping = Own(sandbox_calls.ping_sandbox)
    destroy = Own(sandbox_calls.destroy_sandbox)
    metrics = Own(sandbox_calls.metrics_of_sandbox)
    snapshot = Own(sandbox_calls.snapshot_sandbox)
    start = Own(sandbox_calls.start_process)
    share = Own(port_calls.share_port)
    revoke_links = Own(port_calls.revoke_links)


class Sandbox(_SandboxCalls, Thing):
    """One sandbox. Leaving its ``with`` block destroys it. ``info`` is its record as it was last heard of."""

    def __init__(self, line: Line, info: SandboxInfo) -> None:
        super().__init__(line, info.id)
        self.info = info
        self.files = Files(line, info.id)
        self.processes = Processes(line, info.id)

    def exec(
        self, command: str | Sequence[str], *, stdin: bytes = b"", **options: Unpack[ExecOptions]
    ) -> ExecResult:
        """Run a command to its end; a text is a line for ``sh``. It may take hours and write gigabytes.

        Raises:
            CommandTimeout: its time was over; it and all that it started were killed.
            SandboxState: the sandbox does not run.
            SessionLost: the connection broke off: how it ended is not known, and it was killed.
        """
        with self.exec_stream(command, stdin=bool(stdin), **options) as running:
            return running.result(stdin)

    def exec_stream(
        self,
        command: str | Sequence[str],
        *,
        stdin: bool = False,
        tag: str | None = None,
        **options: Unpack[ExecOptions],
    ) -> ExecStream:
        """As ``exec``, read as it is written. With ``stdin`` its input is what ``send`` gives it."""
        talk = ExecTalk()
        first = talk.start(command, stdin=stdin, tag=tag, **options)
        return ExecStream.begin(self._line.socket(f"{item(self.id)}/exec/stream", {}, EXEC), talk, first)

    def terminal(
        self,
        command: str | Sequence[str] | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        tag: str | None = None,
        view: ViewOptions | None = None,
        **options: Unpack[ProgramOptions],
    ) -> Terminal:
        """A program, or the user's shell, at a terminal of its own.

        Raises:
            InputError: no such size.
            SandboxState: the sandbox does not run.
        """
        talk = TerminalTalk(columns, rows, tag=tag)
        return Terminal.begin(self._viewer, talk, talk.start(command, **options), view or {})

    def attach_terminal(
        self,
        tag: str,
        *,
        after: int | None = 0,
        columns: int = 80,
        rows: int = 24,
        view: ViewOptions | None = None,
    ) -> Terminal:
        """Look at a terminal that is there: from the byte ``after`` on, or None: from now on.

        ``lost`` tells how many of the bytes that were asked for are gone.

        Raises:
            NotFound: there is none, or its program ended more than a minute ago.
        """
        talk = TerminalTalk(columns, rows, tag=tag, after=after)
        return Terminal.begin(self._viewer, talk, talk.attach(), view or {})

    def ports(self) -> list[PortInfo]:
        """The TCP ports that are listened on, by number and address.

        Raises:
            SandboxState: the sandbox does not run.
        """
        return port_calls.placed(self._line.send(port_calls.list_ports(self.id)), self.info)

    def url(self, port: int, *, plain: bool = False) -> str:
        """Where visitors find a port; whether they may, and whether it answers, is another matter.

        ``plain``: without TLS.

        Raises:
            InputError: no such port, or the server has no plain one.
        """
        return port_calls.url_of(self.info, port, plain=plain)

    def set_visibility(self, visibility: Visibility | str, port: int | None = None) -> SandboxInfo:
        """Say who may see one port, or all of them, also those that had a visibility of their own.

        Raises:
            InputError: no such visibility, or no such port.
            SandboxState: the sandbox is over.
        """
        info = self.info if port is not None else self.refresh()
        return self._learn(self._line.send(port_calls.change_visibility(info, visibility, port)))

    def _viewer(self, patient: bool) -> Socket:
        return self._line.socket(f"{item(self.id)}/pty", {}, TERMINAL, patient=patient)

    def _learn(self, answer: T) -> T:
        if isinstance(answer, SandboxInfo):
            self.info = answer
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def __repr__(self) -> str:
        return f"Sandbox({self.id}, {self.info.status.value})"


class AsyncSandbox(_SandboxCalls, AsyncThing):
    """``Sandbox``, awaited."""

    def __init__(self, line: AsyncLine, info: SandboxInfo) -> None:
        super().__init__(line, info.id)
        self.info = info
        self.files = AsyncFiles(line, info.id)
        self.processes = AsyncProcesses(line, info.id)

    async def exec(
        self, command: str | Sequence[str], *, stdin: bytes = b"", **options: Unpack[ExecOptions]
    ) -> ExecResult:
        async with await self.exec_stream(command, stdin=bool(stdin), **options) as running:
            return await running.result(stdin)

    async def exec_stream(
        self,
        command: str | Sequence[str],
        *,
        stdin: bool = False,
        tag: str | None = None,
        **options: Unpack[ExecOptions],
    ) -> AsyncExecStream:
        talk = ExecTalk()
        first = talk.start(command, stdin=stdin, tag=tag, **options)
        socket = await self._line.socket(f"{item(self.id)}/exec/stream", {}, EXEC)
        return await AsyncExecStream.begin(socket, talk, first)

    async def terminal(
        self,
        command: str | Sequence[str] | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        tag: str | None = None,
        view: ViewOptions | None = None,
        **options: Unpack[ProgramOptions],
    ) -> AsyncTerminal:
        talk = TerminalTalk(columns, rows, tag=tag)
        return await AsyncTerminal.begin(self._viewer, talk, talk.start(command, **options), view or {})

    async def attach_terminal(
        self,
        tag: str,
        *,
        after: int | None = 0,
        columns: int = 80,
        rows: int = 24,
        view: ViewOptions | None = None,
    ) -> AsyncTerminal:
        talk = TerminalTalk(columns, rows, tag=tag, after=after)
        return await AsyncTerminal.begin(self._viewer, talk, talk.attach(), view or {})

    async def ports(self) -> list[PortInfo]:
        return port_calls.placed(await self._line.send(port_calls.list_ports(self.id)), self.info)

    def url(self, port: int, *, plain: bool = False) -> str:
        return port_calls.url_of(self.info, port, plain=plain)

    async def set_visibility(self, visibility: Visibility | str, port: int | None = None) -> SandboxInfo:
        info = self.info if port is not None else await self.refresh()
        return self._learn(await self._line.send(port_calls.change_visibility(info, visibility, port)))

    async def _viewer(self, patient: bool) -> AsyncSocket:
        return await self._line.socket(f"{item(self.id)}/pty", {}, TERMINAL, patient=patient)

    def _learn(self, answer: T) -> T:
        if isinstance(answer, SandboxInfo):
            self.info = answer
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    def __repr__(self) -> str:
        return f"AsyncSandbox({self.id}, {self.info.status.value})"


class _Given(Generic[P]):
    """A described call as a method that gives the sandbox which the answer is the record of."""

    def __init__(self, describe: Callable[P, Call[SandboxInfo]]) -> None:
        self._describe = describe

    @overload
    def __get__(self, group: None, kind: type) -> Self: ...
    @overload
    def __get__(self, group: Sandboxes, kind: type) -> Callable[P, Sandbox]: ...
    @overload
    def __get__(
        self, group: AsyncSandboxes, kind: type
    ) -> Callable[P, Coroutine[Any, Any, AsyncSandbox]]: ...

    def __get__(self, group: Sandboxes | AsyncSandboxes | None, kind: type) -> Any:
        if group is None:
            return self
        describe = self._describe

        @functools.wraps(describe, assigned=("__doc__", "__name__"))
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group.of(describe(*args, **kwargs))

        return method


class Chosen(TypedDict, total=False):
    """Which sandboxes are listed."""

    status: SandboxStatus | None
    template: str | None
    host_id: str | None
    limit: int


class _SandboxesCalls:
    """Told in ``sandbox_calls``."""

    create = _Given(sandbox_calls.create_sandbox)
    get = _Given(sandbox_calls.get_sandbox)


class Sandboxes(_SandboxesCalls):
    """``client.sandboxes``: ``create`` and ``get`` give a Sandbox, ``list`` all of them."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def of(self, call: Call[SandboxInfo]) -> Sandbox:
        """The sandbox that a call is answered with."""
        return Sandbox(self._line, self._line.send(call))

    def list(self, **chosen: Unpack[Chosen]) -> list[Sandbox]:
        """As ``sandbox_calls.list_sandboxes`` tells."""
        infos = self._line.send(sandbox_calls.list_sandboxes(**chosen))
        return [Sandbox(self._line, info) for info in infos]


class AsyncSandboxes(_SandboxesCalls):
    """``client.sandboxes``, awaited."""

    def __init__(self, line: AsyncLine) -> None:
        self._line = line

    async def of(self, call: Call[SandboxInfo]) -> AsyncSandbox:
        return AsyncSandbox(self._line, await self._line.send(call))

    async def list(self, **chosen: Unpack[Chosen]) -> list[AsyncSandbox]:
        infos = await self._line.send(sandbox_calls.list_sandboxes(**chosen))
        return [AsyncSandbox(self._line, info) for info in infos]
