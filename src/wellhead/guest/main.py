"""The guest's life: it takes connections on a socket that it was given, and does what each asks."""

from __future__ import annotations

import asyncio
import contextlib
import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.unicode_escape
import encodings.utf_8
import functools
import linecache
import logging
import os
import resource
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable

from wellhead.guest import exec as programs
from wellhead.guest import files, ports, terminal
from wellhead.guest.asked import Asked
from wellhead.guest.child import adopt_orphans
from wellhead.guest.connection import Connection, HostGone
from wellhead.guest.processes import Processes
from wellhead.guest.refusal import Refusal, Word, refused
from wellhead.guest.spawn import Starter
from wellhead.guest.terms import GuestTerms
from wellhead.guest.tree import kill_descendants
from wellhead.guest.waiting import first_of
from wellhead.guest.worker import Workers
from wellhead.model.text import shown
from wellhead.version import VERSION

CONNECTIONS_MAX = 1024
_FIRST_MESSAGE_SECONDS = 10.0
_OUT_OF_DESCRIPTORS_SECONDS = 0.1  # until the next look whether a connection can be taken again

_CODECS = (
    encodings.ascii,
    encodings.idna,
    encodings.latin_1,
    encodings.unicode_escape,
    encodings.utf_8,
)
_log = logging.getLogger("wellhead.guest")


def preload() -> None:
    """Import all that the guest may ever need: later its root may be one that has none of it."""
    for codec in _CODECS:
        codec.getregentry()
    linecache.lazycache("", {})
    traceback.format_exc()
    asyncio.run(asyncio.sleep(0))  # what a loop imports when it begins


def serve(sock: socket.socket, terms: GuestTerms) -> int:
    """Answer on this socket, which listens, until told to stop; what to exit with.

    Takes the whole process: its signals, its children, its umask.
    """
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of which a first process does not die
    _hold_standard_streams()
    if os.getpid() != 1:
        adopt_orphans()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_Guest(terms, _widen_descriptors()).run(sock))


class _Guest:
    def __init__(self, terms: GuestTerms, descriptors: tuple[int, int]) -> None:
        self._terms = terms
        self._processes = Processes(terms, Starter(terms, descriptors))
        self._workers = Workers(self._processes, terms)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._operations: dict[str, Callable[[Connection, Asked], Awaitable[None]]] = {
            "hello": self._hello,
            "exec": self._exec,
            "attach": self._attach,
            "processes": self._list,
            "terminal": self._terminal,
            "terminal_attach": self._terminal_attach,
            "signal": self._signal,
            "ports": self._ports,
            "stop": self._stop_all,
            **dict.fromkeys(files.OPERATIONS, self._file),
        }

    async def run(self, sock: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._processes.reap)
        if os.getpid() != 1:  # a first process gets from its own kind only the signals it asks for
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(each, self._stop.set)
        await first_of(self._accept(sock), self._stopped())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if os.getpid() != 1:  # with a first process all others end
            self._processes.kill_groups()
            kill_descendants(os.getpid())
            self._processes.reap()
        return 0

    async def _stopped(self) -> None:
        await self._stop.wait()

    async def _accept(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
            except OSError:  # descriptors or memory of the whole machine are used up, or it left at once
                await asyncio.sleep(_OUT_OF_DESCRIPTORS_SECONDS)
                continue
            task = asyncio.create_task(self._answer(Connection(accepted)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(HostGone):
                refusal = await self._refusal(connection)
                if refusal is not None:
                    await connection.refuse(refusal)
            await connection.finish()
        finally:
            connection.close()

    async def _refusal(self, connection: Connection) -> Refusal | None:
        """Do what is asked; why not, where it is not done."""
        try:
            await self._operate(connection)
        except HostGone:
            raise
        except Refusal as refusal:
            return refusal
        except OSError as error:
            return refused(error, "the operation")
        except Exception as error:
            _log.exception("operation failed")
            return Refusal(Word.FAILED, f"the guest failed: {type(error).__name__}")
        return None

    async def _operate(self, connection: Connection) -> None:
        if len(self._tasks) > CONNECTIONS_MAX:
            raise Refusal(Word.BUSY, f"{CONNECTIONS_MAX} operations are under way, and no more may be")
        try:
            async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
                members = await connection.next_message()
        except TimeoutError as error:
            raise Refusal(Word.INVALID, "the connection said nothing") from error
        if members is None:
            return
        asked = Asked(members)
        operation = self._operations.get(asked.must("do"))
        if operation is None:
            raise Refusal(Word.INVALID, f"nothing is called {shown(asked.must('do'))} here")
        await operation(connection, asked)

    async def _hello(self, connection: Connection, asked: Asked) -> None:
        about = {"version": VERSION, "pid": os.getpid(), "processes": len(self._processes)}
        await connection.answer({"ok": about})

    async def _exec(self, connection: Connection, asked: Asked) -> None:
        await programs.execute(self._processes, self._terms, connection, asked)

    async def _attach(self, connection: Connection, asked: Asked) -> None:
        await programs.attach(self._processes, connection, asked)

    async def _terminal(self, connection: Connection, asked: Asked) -> None:
        await terminal.start(self._processes, self._terms, connection, asked)

    async def _terminal_attach(self, connection: Connection, asked: Asked) -> None:
        await terminal.attach(self._processes, connection, asked)

    async def _list(self, connection: Connection, asked: Asked) -> None:
        await connection.answer_list("processes", self._processes.records())

    async def _signal(self, connection: Connection, asked: Asked) -> None:
        self._processes.signal(asked.must("selector"), asked.must("signal"))
        await connection.answer({"ok": {}})

    async def _file(self, connection: Connection, asked: Asked) -> None:
        self._workers.begin(connection, *files.prepare(asked, self._terms))

    async def _ports(self, connection: Connection, asked: Asked) -> None:
        root = None if self._terms.isolated else os.getpid()
        self._workers.begin(connection, None, functools.partial(ports.tell, root=root))

    async def _stop_all(self, connection: Connection, asked: Asked) -> None:
        await connection.answer({"ok": {}})
        self._stop.set()


def _hold_standard_streams() -> None:
    """Have something at 0, 1 and 2, so that nothing of ours is ever taken for them."""
    fd = os.memfd_create("nothing") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.dup(fd)
    os.close(fd)


def _widen_descriptors() -> tuple[int, int]:
    """The limits as they were; ours is as high as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
