"""``POST /sandboxes/{id}/exec``: a command, answered with all that it wrote, or begun in the background.

Two ways to say it: wrenn's, ``cmd`` and ``args``, and ours, ``argv``. They differ in the words of time-outs
and in how an end by a signal is told.

Source: docs/reference/sandboxes-api.md, "Commands".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from wellhead.errors import HostError, HostInvalid, HostTimeout, HostTooLarge
from wellhead.host.api import outcome
from wellhead.host.api.bodies import Members, read_body
from wellhead.host.api.context import Context
from wellhead.host.api.dialect import KILLED
from wellhead.host.api.outcome import PIECE, Held, Ran
from wellhead.host.entry import Entry
from wellhead.host.guest_link import Command, GuestLink
from wellhead.host.guest_stream import Exited, GuestStream, Output
from wellhead.model.sandboxes import SandboxId


def read_command(asked: Members, entry: Entry, *, shell: bool = False) -> Command:
    """What is to be run, said in either way. ``shell``: without a program, it is the user's shell, argv [].

    Raises:
        HostInvalid: a member that is missing or no good.
    """
    if "argv" in asked:
        argv = asked.words("argv")
    elif shell and "cmd" not in asked and "args" not in asked:
        argv = []
    else:
        argv = [asked.text("cmd"), *asked.words("args")]
    if not (argv and argv[0]) and not (shell and not argv):
        raise HostInvalid("no program is named")
    env = asked.environment("env") if "env" in asked else asked.environment("envs")
    return Command(argv, {**entry.env, **env}, asked.optional("cwd"), asked.optional("user"))


class ExecRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [Route("/sandboxes/{id}/exec", Executing(self._context), methods=["POST"])]


class Executing:
    """Runs a command, as an ASGI application: what it wrote is let go of however the answer ends."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held = Held(context.terms.outputs_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held.share() as take:
            answer = await self._answer(Request(scope, receive), take)
            await answer(scope, receive, send)

    async def _answer(self, request: Request, take: Callable[[int], None]) -> Response:
        context = self._context
        sandbox = context.asked(request)
        context.sandboxes.running(sandbox)
        asked = await read_body(request, context.terms.body_bytes)
        if asked.flag("background", False):
            return await self._start(sandbox, asked)
        with context.sandboxes.busy(sandbox) as entry:
            answer = await self._run(sandbox, asked, entry, take)
        context.sandboxes.touch(sandbox)
        return answer

    async def _start(self, sandbox: SandboxId, asked: Members) -> Response:
        context = self._context
        command = read_command(asked, context.sandboxes.running(sandbox))
        pid, tag = await context.link(sandbox).start(command, tag=asked.tag("tag"))
        context.sandboxes.stir(sandbox)
        return JSONResponse({"sandbox_id": sandbox, "cmd": command.argv[0], "pid": pid, "tag": tag}, 202)

    async def _run(
        self, sandbox: SandboxId, asked: Members, entry: Entry, take: Callable[[int], None]
    ) -> Response:
        terms = self._context.terms
        ours = "argv" in asked
        command = read_command(asked, entry)
        seconds = asked.seconds(
            "timeout_seconds" if ours else "timeout_sec", terms.exec_seconds, terms.exec_seconds_max
        )
        ran = await run(
            self._context.way(entry), command, seconds, asked.encoded("stdin"), terms.output_bytes, take
        )
        if ran.exited.timed_out:
            kind = HostTimeout if ours else HostError
            raise kind(
                f"the command ran longer than {seconds:g} s, and was killed with all that it had started"
            )
        code = ran.exited.code
        after: dict[str, object] = {"exit_code": KILLED if code is None else code}
        if ours:
            after = {"exit_code": code, "signal": ran.exited.signal}
        return await outcome.answer({"sandbox_id": sandbox, "cmd": command.argv[0]}, ran, after)


async def run(
    link: GuestLink, command: Command, seconds: float | None, stdin: bytes | None, output_bytes: int,
    take: Callable[[int], None],
) -> Ran:  # fmt: skip
    """Run a command to its end. ``take`` is told of bytes that are held, where they are more than a few.

    Raises:
        HostTooLarge: it wrote more than ``output_bytes`` to one of its streams, and was killed.
        HostBusy: ``take`` says that too much is held, and it was killed.
        HostError: it cannot be run.
    """
    began = time.monotonic()
    stream = await link.run(command, stdin=stdin is not None, timeout_seconds=seconds)
    feeding = asyncio.ensure_future(_feed(stream, stdin))
    try:
        output, errors, exited = await _collect(stream, output_bytes, take)
    finally:
        stream.close()
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)  # what stops it stops the output as well
    return Ran(output, errors, exited, round((time.monotonic() - began) * 1000))


async def _collect(
    stream: GuestStream, output_bytes: int, take: Callable[[int], None]
) -> tuple[bytearray, bytearray, Exited]:
    output, errors = bytearray(), bytearray()
    while True:
        for told in await stream.told():
            if isinstance(told, Exited):
                return output, errors, told
            if isinstance(told, Output):
                into = errors if told.errors else output
                if len(output) + len(errors) + len(told.data) > PIECE:
                    take(len(told.data))
                into += told.data
                if len(into) > output_bytes:
                    name = "standard error" if told.errors else "standard output"
                    raise HostTooLarge(
                        f"the command wrote more than {output_bytes} bytes to {name}, and was killed: "
                        "exec/stream has no such bound"
                    )


async def _feed(stream: GuestStream, stdin: bytes | None) -> None:
    if stdin is not None:
        await stream.send(stdin)
        stream.end_input()
