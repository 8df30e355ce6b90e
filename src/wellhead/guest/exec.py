"""Programs without a terminal: one that the host waits for, one in the background, and looking on."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from wellhead.guest.asked import Asked
from wellhead.guest.connection import Connection
from wellhead.guest.output import Output, Viewer
from wellhead.guest.processes import Label, Process, Processes, ProcessKind
from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.spawn import Program, Streams, environment, place
from wellhead.guest.terms import GuestTerms
from wellhead.guest.users import find_user
from wellhead.guest.waiting import first_of, writable
from wellhead.wire.guest import GuestFrame, frame, numbered

KEPT = 256 * 1024  # bytes of output
AHEAD = 128 * 1024  # bytes that a program may be ahead of the host that waits for it


async def execute(processes: Processes, terms: GuestTerms, connection: Connection, asked: Asked) -> None:
    """The operation ``exec``."""
    background = asked.flag("background")
    tag = asked.tag()
    if background and tag is None:
        tag = f"proc-{secrets.token_hex(4)}"
    label = Label(ProcessKind.BACKGROUND if background else ProcessKind.EXEC, tag)
    timeout = asked.seconds("timeout_seconds")
    program = read_program(asked, terms)
    if not program.argv or not program.argv[0]:
        raise Refusal(Word.INVALID, "argv has no program in it")
    output = Output(KEPT, ahead=AHEAD)
    viewer = output.view(0, paces=not background)
    if background:
        viewer.leave()
    with _plumbing(asked.flag("stdin") and not background) as (streams, ours):
        process = await processes.start(program, label, streams, output)
    process.read_from(ours[0], GuestFrame.OUTPUT)
    process.read_from(ours[1], GuestFrame.ERRORS)
    if timeout is not None:
        process.limit(timeout)
    if background:
        await connection.answer(_started(process))
        return
    stdin = _Stdin(ours[2] if len(ours) > 2 else None)
    try:
        await connection.answer(_started(process))
        await first_of(show(process, viewer, connection), _feed(stdin, connection), connection.gone())
    finally:
        stdin.close()
        viewer.leave()
        process.kill()


async def attach(processes: Processes, connection: Connection, asked: Asked) -> None:
    """The operation ``attach``."""
    process = processes.known(asked.must("selector"))
    output = process.output
    viewer = output.view(check_after(asked, output), paces=False)
    try:
        place = {"pid": process.pid, "tag": process.tag, "next": viewer.at, "lost": viewer.missed}
        await connection.answer({"attached": place})
        await first_of(show(process, viewer, connection), connection.gone())
    finally:
        viewer.leave()


async def show(process: Process, viewer: Viewer, connection: Connection, *, numbers: bool = False) -> None:
    """Send what a viewer sees, in frames of its channel, and how it all ended."""
    while (seen := await viewer.next()) is not None:
        if isinstance(seen, int):
            await connection.answer({"lost": seen})
        elif numbers:
            await connection.send(numbered(seen.number, seen.data))
        else:
            await connection.send(frame(GuestFrame(seen.channel), seen.data))
    await connection.answer({"exited": process.exit()})


def read_program(asked: Asked, terms: GuestTerms, **usual: str) -> Program:
    """What is to run, as who, where and with what environment; ``usual``: what that has unless it is told.

    Raises:
        Refusal: a member is not what it must be, or there is no such user.
    """
    user = find_user(asked.text("user"), terms)
    cwd = asked.text("cwd")
    env = {**usual, **environment(user, terms, asked.table("env"))}
    return Program(asked.texts("argv"), env, place(cwd, user) if cwd else None, user)


def check_after(asked: Asked, output: Output) -> int | None:
    """
    Raises:
        Refusal: a number beyond what was written (invalid).
    """
    return asked.whole("after", 0, output.ring.end)


def _started(process: Process) -> dict[str, object]:
    return {"started": {"pid": process.pid, "tag": process.tag}}


@contextlib.contextmanager
def _plumbing(stdin: bool) -> Iterator[tuple[Streams, list[int]]]:
    """Pipes for a program, and our ends: of its output, its errors and, where it has one, its input.

    Ours stay open unless what is done with them fails.
    """
    theirs: list[int] = []
    ours: list[int] = []
    try:
        for _ in range(2):
            end, other = os.pipe()
            ours.append(end)
            theirs.append(other)
        # An input that has ended is a pipe that nobody holds: the sandbox may have put anything at /dev/null.
        end, other = os.pipe()
        theirs.append(end)
        (ours if stdin else theirs).append(other)
        if stdin:
            os.set_blocking(other, False)
        yield Streams(end, theirs[0], theirs[1]), ours
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)


async def _feed(stdin: _Stdin, connection: Connection) -> None:
    while (found := await connection.next()) is not None:
        kind, payload = found
        if kind is GuestFrame.INPUT:
            await stdin.write(payload)
        elif kind is GuestFrame.END:
            stdin.close()
        else:
            raise Refusal(Word.INVALID, f"a frame of kind {kind.name} where INPUT or END belongs")


class _Stdin:
    """Our end of a program's standard input; None where it has none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._ended = fd is None

    async def write(self, data: bytes) -> None:
        """All of it, in the program's own time; nothing where it reads no more.

        Raises:
            Refusal: it was ended, or never was there (invalid).
        """
        if self._ended:
            raise Refusal(Word.INVALID, "INPUT for a process whose standard input has ended")
        view = memoryview(data)
        while view and self._fd is not None:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await writable(self._fd)
            except BrokenPipeError:
                self._close()

    def close(self) -> None:
        self._ended = True
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
