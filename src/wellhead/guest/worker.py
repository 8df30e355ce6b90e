"""File operations are done by a child that has become their user: what the guest may do beyond that cannot
leak.

The child takes the connection over and serves it to the end with plain blocking calls, so a slow disk, a big
tree or a slow host is nobody else's matter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NoReturn

from wellhead.errors import ProtocolError
from wellhead.guest.child import become, fork
from wellhead.guest.connection import Connection, pages, refused_members
from wellhead.guest.processes import Processes
from wellhead.guest.refusal import Refusal, Word, refused
from wellhead.guest.terms import GuestTerms
from wellhead.guest.users import User
from wellhead.wire.guest import GuestFrame, message

WORKERS_MAX = 64
_RECEIVE = 256 * 1024  # bytes at once
_REFUSED_SECONDS = 10.0  # that the host may send nothing and not close either
_RECURSION_MAX = 50_000  # directories can lie deeper in one another than calls usually do
_FDS_END = 1 << 20  # no descriptor is as high


_log = logging.getLogger("wellhead.guest")


class HostLeft(Exception):
    """The host closed the connection before the operation's end."""


class Line:
    """The connection as a worker has it: blocking. Every call may raise HostLeft."""

    def __init__(self, connection: Connection) -> None:
        self._sock = connection.sock
        self._frames = connection.frames
        self._ready: deque[tuple[GuestFrame, bytes]] = connection.ready
        self._sock.setblocking(True)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise HostLeft from error

    def answer(self, members: dict[str, object]) -> None:
        self.send(message(members))

    def answer_list(self, name: str, items: Iterable[dict[str, object]]) -> None:
        """As ``Connection.answer_list``."""
        for page, is_last in pages(items):
            self.answer({"ok" if is_last else "more": {name: page}})

    def refuse(self, refusal: Refusal) -> None:
        """Say why not; what the host is sending still is taken, so that it comes to read that."""
        self.answer(refused_members(refusal))
        self._sock.shutdown(socket.SHUT_WR)
        self._sock.settimeout(_REFUSED_SECONDS)
        with contextlib.suppress(OSError):
            while self._sock.recv(_RECEIVE):
                pass

    def received(self) -> Iterator[bytes]:
        """What the host sends as INPUT, until its END.

        Raises:
            Refusal: something else came (invalid).
        """
        while True:
            kind, payload = self._next()
            if kind is GuestFrame.END:
                return
            if kind is not GuestFrame.INPUT:
                raise Refusal(Word.INVALID, f"a frame of kind {kind.name} where INPUT or END belongs")
            yield payload

    def _next(self) -> tuple[GuestFrame, bytes]:
        while not self._ready:
            try:
                data = self._sock.recv(_RECEIVE)
            except OSError as error:
                raise HostLeft from error
            if not data:
                raise HostLeft
            try:
                self._ready.extend(self._frames.receive(data))
            except ProtocolError as error:
                raise Refusal(Word.INVALID, str(error)) from error
        return self._ready.popleft()


class Workers:
    """The children at work. A crowd of them is refused."""

    def __init__(self, processes: Processes, terms: GuestTerms) -> None:
        self._processes = processes
        self._terms = terms
        self._pids: set[int] = set()

    def begin(self, connection: Connection, user: User | None, job: Callable[[Line], None]) -> None:
        """Have a child do the job, as this user or as the guest itself; the connection is the child's then.

        Raises:
            Refusal: too many are at work, or no process can be made (busy).
        """
        if len(self._pids) >= WORKERS_MAX:
            raise Refusal(Word.BUSY, f"{WORKERS_MAX} operations on files are under way, and no more may be")
        try:
            pid = fork(partial(_work, connection, user, self._terms, job))
        except OSError as error:
            raise refused(error, "a new process") from error
        connection.close()
        self._pids.add(pid)
        self._processes.watch(pid, partial(self._ended, pid))

    def _ended(self, pid: int, status: int) -> None:
        self._pids.discard(pid)


def _work(
    connection: Connection, user: User | None, terms: GuestTerms, job: Callable[[Line], None]
) -> NoReturn:
    """In the child, and never back."""
    line = Line(connection)
    sys.setrecursionlimit(_RECURSION_MAX)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    os.closerange(3, line.fileno())
    os.closerange(line.fileno() + 1, _FDS_END)
    try:
        try:
            if user is not None:
                become(user, terms)
            job(line)
        except Refusal as refusal:
            line.refuse(refusal)
        except OSError as error:
            line.refuse(refused(error, "the operation"))
        except HostLeft:
            raise
        except Exception as error:
            _log.exception("operation failed")
            line.refuse(Refusal(Word.FAILED, f"the guest failed: {type(error).__name__}"))
    except HostLeft:
        pass
    os._exit(0)


def _leave(number: int, frame: object) -> None:
    raise HostLeft  # so that what was begun is cleaned up
