"""Programs at a terminal: they live on while nobody looks, and several may look and type at once."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace

from wellhead.guest.asked import Asked, whole
from wellhead.guest.connection import Connection, as_message
from wellhead.guest.exec import check_after, read_program, show
from wellhead.guest.output import Output, Viewer
from wellhead.guest.processes import Label, Process, Processes, ProcessKind
from wellhead.guest.pty import COLUMNS_MAX, ROWS_MAX, Pty
from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.spawn import Streams
from wellhead.guest.terms import GuestTerms
from wellhead.guest.waiting import first_of
from wellhead.model.text import shown
from wellhead.wire.guest import GuestFrame

TERMINALS_MAX = 64
VIEWERS_MAX = 64  # of one terminal
KEPT = 1024 * 1024  # bytes of output
AHEAD = 128 * 1024  # bytes that the program may be ahead of its fastest viewer
PATIENCE_SECONDS = 30.0  # that a viewer may take nothing and hold the program up
INPUT_HELD_MAX = 256 * 1024  # bytes of a viewer's that wait for the program
_PIECE_COST = 64  # bytes that a piece takes beside its own, roughly
_LAST_INPUT_SECONDS = 5.0  # for what a viewer typed before it left
_TYPE = "xterm-256color"


async def start(processes: Processes, terms: GuestTerms, connection: Connection, asked: Asked) -> None:
    """The operation ``terminal``."""
    columns = asked.whole("columns", 1, COLUMNS_MAX) or 80
    rows = asked.whole("rows", 1, ROWS_MAX) or 24
    label = Label(ProcessKind.TERMINAL, asked.tag() or f"pty-{secrets.token_hex(4)}")
    program = read_program(asked, terms, TERM=_TYPE)
    if not program.argv:
        program = replace(program, argv=[program.user.shell])
    if processes.count(ProcessKind.TERMINAL) >= TERMINALS_MAX:
        raise Refusal(Word.BUSY, f"{TERMINALS_MAX} terminals live here, and no more may")
    output = Output(KEPT, ahead=AHEAD, patience_seconds=PATIENCE_SECONDS)
    pty = Pty(columns, rows, program.user.uid)
    end = pty.program_end
    try:
        process = await processes.start(program, label, Streams(end, end, end, terminal=True), output)
    except BaseException:
        os.close(pty.output_end)
        pty.close()
        raise
    finally:
        os.close(end)
    process.read_from(pty.output_end, GuestFrame.OUTPUT, hang_up=True)
    process.pty = pty
    viewer = output.view(0, paces=True)
    try:
        await connection.answer({"started": {"pid": process.pid, "tag": process.tag}})
        await _view(process, pty, viewer, connection)
    finally:
        viewer.leave()


async def attach(processes: Processes, connection: Connection, asked: Asked) -> None:
    """The operation ``terminal_attach``."""
    process = processes.known(asked.must("tag"))
    if process.pty is None:
        raise Refusal(Word.NOT_FOUND, f"{shown(asked.must('tag'))} is not at a terminal")
    output, pty = process.output, process.pty
    if output.viewers >= VIEWERS_MAX:
        raise Refusal(Word.BUSY, f"{VIEWERS_MAX} look at this terminal, and no more may")
    viewer = output.view(check_after(asked, output), paces=True)
    try:
        about = {
            "pid": process.pid,
            "tag": process.tag,
            "next": viewer.at,
            "lost": viewer.missed,
            "columns": pty.columns,
            "rows": pty.rows,
        }
        await connection.answer({"attached": about})
        await _view(process, pty, viewer, connection)
    finally:
        viewer.leave()


async def _view(process: Process, pty: Pty, viewer: Viewer, connection: Connection) -> None:
    showing = show(process, viewer, connection, numbers=True)
    await first_of(showing, _type(process, pty, connection), _left(connection))


async def _left(connection: Connection) -> None:
    """Until the host has closed and what it sent before had its time."""
    await connection.gone()
    await asyncio.sleep(_LAST_INPUT_SECONDS)


async def _type(process: Process, pty: Pty, connection: Connection) -> None:
    """Pass on what a viewer types; what it says besides overtakes what the program has not read yet."""
    inbox = _Inbox()
    await first_of(_read(process, pty, connection, inbox), _write(pty, inbox))


async def _read(process: Process, pty: Pty, connection: Connection, inbox: _Inbox) -> None:
    while (found := await connection.next()) is not None:
        kind, payload = found
        if kind is GuestFrame.INPUT:
            await inbox.put(payload)
            continue
        members = as_message(kind, payload)
        if members.get("kill") is True:
            process.kill()
        elif isinstance(size := members.get("resize"), list) and len(size) == 2:
            pty.resize(whole(size[0], "columns", 1, COLUMNS_MAX), whole(size[1], "rows", 1, ROWS_MAX))
        else:
            raise Refusal(Word.INVALID, "a message to a terminal that is neither resize nor kill")
    await inbox.emptied()


async def _write(pty: Pty, inbox: _Inbox) -> None:
    while True:
        data = await inbox.next()
        await pty.write(data)
        inbox.taken(data)


class _Inbox:
    """Input on its way to a terminal; who puts waits for all of it to be taken once there is much."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._held = 0

    async def put(self, data: bytes) -> None:
        if self._held >= INPUT_HELD_MAX:
            await self._pieces.join()
        self._held += len(data) + _PIECE_COST
        self._pieces.put_nowait(data)

    async def next(self) -> bytes:
        return await self._pieces.get()

    def taken(self, data: bytes) -> None:
        self._held -= len(data) + _PIECE_COST
        self._pieces.task_done()

    async def emptied(self) -> None:
        await self._pieces.join()
