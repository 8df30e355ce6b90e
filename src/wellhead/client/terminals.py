"""Terminals in sandboxes: a program that lives on without its viewers, and output that none of them misses.

>>> with sandbox.terminal(columns=120, rows=40) as terminal:
...     terminal.send(b"make\\n")
...     for piece in terminal:
...         print(piece.decode(errors="replace"), end="")

When the connection is lost, a terminal is attached anew and goes on with the byte that was next. What is
sent at the moment of a loss may not arrive; what is sent after it waits until the terminal is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Self, TypedDict

from wellhead.client.heard import Heard
from wellhead.client.sockets import AsyncSocket, Socket
from wellhead.client.talks import TerminalTalk, kill_message, pieces
from wellhead.errors import Retry, SessionLost, StateError, WellheadError
from wellhead.net.backoff import Backoff

RECONNECT_SECONDS = 300.0
PAUSES_SECONDS = ((0.0, 0.2), (0.0, 1.0), (0.5, 2.0), (2.0, 4.0))  # somebody sits there and waits

Noticed = Callable[[WellheadError | None], None]
"""Is told of a loss, and of each attempt that failed; of None when the terminal is attached again."""


class ViewOptions(TypedDict, total=False):
    """How a viewer does when the connection is lost.

    ``reconnect_seconds``: for how long it tries to attach anew; None: for ever, 0: not at all.
    """

    reconnect_seconds: float | None
    noticed: Noticed | None


class _Viewed(Heard[TerminalTalk]):
    """A terminal that is looked at."""

    def __init__(self, talk: TerminalTalk, view: ViewOptions) -> None:
        super().__init__(talk)
        self._reconnect_seconds = view.get("reconnect_seconds", RECONNECT_SECONDS)
        self._noticed = view.get("noticed")
        self._backoff = Backoff(pauses=PAUSES_SECONDS)
        self._lost_at: float | None = None
        self._left = False

    @property
    def tag(self) -> str:
        """What ``attach_terminal`` finds it by."""
        return self._talk.tag or ""

    @property
    def columns(self) -> int:
        return self._talk.columns

    @property
    def rows(self) -> int:
        return self._talk.rows

    def _after_a_loss(self, error: WellheadError) -> float:
        """Seconds until the next attempt.

        Raises:
            WellheadError: ``error``, where there is none.
        """
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        allowed = self._reconnect_seconds
        pause = self._backoff.pause(error)
        if self._left or error.retry is not Retry.LATER:
            raise error
        if allowed is not None and now + pause > self._lost_at + allowed:
            raise error
        if self._noticed is not None:
            self._noticed(error)
        return pause

    def _back(self) -> None:
        self._lost_at = None
        self._backoff.reset()
        if self._noticed is not None:
            self._noticed(None)

    def _check(self) -> None:
        """
        Raises:
            StateError: nothing can be sent any more.
        """
        if self._left or self._talk.end is not None:
            raise StateError(f"the terminal {self.tag} is {'left' if self._left else 'over'}")


class Terminal(_Viewed):
    """Iterating gives the output, and ends with the program. One thread may read while others send.

    Leaving the ``with`` block detaches: the program runs on.
    """

    def __init__(
        self, open: Callable[[bool], Socket], socket: Socket, talk: TerminalTalk, view: ViewOptions
    ) -> None:
        super().__init__(talk, view)
        self._open = open
        self._socket = socket
        self._mending, self._taking = threading.Lock(), threading.Lock()
        self._leaving = threading.Event()

    @classmethod
    def begin(cls, open: Callable[[bool], Socket], talk: TerminalTalk, first: str, view: ViewOptions) -> Self:
        """Say ``first`` and wait until it is attached. ``open(patient)`` gives a connection to it."""
        terminal = cls(open, open(True), talk, view)
        try:
            terminal._greet(terminal._socket, first)
        except BaseException:
            terminal.detach()
            raise
        return terminal

    def _greet(self, socket: Socket, first: str) -> None:
        socket.send(first)
        while not self._talk.opened:
            self._take(socket.receive())

    def _take(self, message: str | bytes) -> bytes | None:
        with self._taking:  # who attaches anew is another thread than who still reads what came before
            return self._talk.take(message)

    def read(self, timeout_seconds: float | None = None) -> bytes:
        """What was written next; empty when the program ended, or when the terminal is left.

        Raises:
            TimeoutError: nothing was written in that time.
            WellheadError: the connection is lost, and it cannot be attached again.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self._talk.end is None and not self._left:
            socket = self._socket
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if (data := self._take(socket.receive(left))) is not None:
                    return data
            except SessionLost as error:
                if not self._left and self._talk.end is None:
                    self._mend(socket, error)
        return b""

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data

    def send(self, data: bytes) -> None:
        """Type these bytes; waits while the program reads too slowly."""
        for piece in pieces(data):
            self._say(piece)

    def resize(self, columns: int, rows: int) -> None:
        """
        Raises:
            InputError: no such size.
        """
        self._say(self._talk.resize(columns, rows))

    def kill(self) -> None:
        """End its program, with all that it started."""
        self._say(kill_message())

    def detach(self) -> None:
        """Leave it; its program runs on."""
        self._left = True
        self._leaving.set()
        self._socket.close()

    def _say(self, message: str | bytes) -> None:
        while True:
            self._check()
            socket = self._socket
            try:
                return socket.send(message)
            except SessionLost as error:
                self._check()
                self._mend(socket, error)

    def _mend(self, broken: Socket, error: WellheadError) -> None:
        """Attach anew, once for all who noticed."""
        with self._mending:
            while self._socket is broken:
                if self._leaving.wait(self._after_a_loss(error)):
                    return
                try:
                    self._socket = self._attached()
                except WellheadError as another:
                    error = another
            if self._lost_at is not None:
                self._back()

    def _attached(self) -> Socket:
        socket = self._open(False)
        try:
            self._greet(socket, self._talk.again())
            with contextlib.suppress(SessionLost):  # its program has ended: that is to be read
                socket.send(self._talk.resize(self._talk.columns, self._talk.rows))
        except BaseException:
            socket.close()
            raise
        return socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


class AsyncTerminal(_Viewed):
    """``Terminal``, awaited. One task may read while others send."""

    def __init__(
        self,
        open: Callable[[bool], Awaitable[AsyncSocket]],
        socket: AsyncSocket,
        talk: TerminalTalk,
        view: ViewOptions,
    ) -> None:
        super().__init__(talk, view)
        self._open = open
        self._socket = socket
        self._mending = asyncio.Lock()
        self._leaving = asyncio.Event()

    @classmethod
    async def begin(
        cls, open: Callable[[bool], Awaitable[AsyncSocket]], talk: TerminalTalk, first: str, view: ViewOptions
    ) -> Self:
        terminal = cls(open, await open(True), talk, view)
        try:
            await terminal._greet(terminal._socket, first)
        except BaseException:
            await terminal.detach()
            raise
        return terminal

    async def _greet(self, socket: AsyncSocket, first: str) -> None:
        await socket.send(first)
        while not self._talk.opened:
            self._talk.take(await socket.receive())

    async def read(self) -> bytes:
        while self._talk.end is None and not self._left:
            socket = self._socket
            try:
                if (data := self._talk.take(await socket.receive())) is not None:
                    return data
            except SessionLost as error:
                if not self._left and self._talk.end is None:
                    await self._mend(socket, error)
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def send(self, data: bytes) -> None:
        for piece in pieces(data):
            await self._say(piece)

    async def resize(self, columns: int, rows: int) -> None:
        await self._say(self._talk.resize(columns, rows))

    async def kill(self) -> None:
        await self._say(kill_message())

    async def detach(self) -> None:
        self._left = True
        self._leaving.set()
        await self._socket.close()

    async def _say(self, message: str | bytes) -> None:
        while True:
            self._check()
            socket = self._socket
            try:
                return await socket.send(message)
            except SessionLost as error:
                self._check()
                await self._mend(socket, error)

    async def _mend(self, broken: AsyncSocket, error: WellheadError) -> None:
        async with self._mending:
            while self._socket is broken:
                try:
                    await asyncio.wait_for(self._leaving.wait(), self._after_a_loss(error))
                except TimeoutError:
                    try:
                        self._socket = await self._attached()
                    except WellheadError as another:
                        error = another
                else:
                    return
            if self._lost_at is not None:
                self._back()

    async def _attached(self) -> AsyncSocket:
        socket = await self._open(False)
        try:
            await self._greet(socket, self._talk.again())
            with contextlib.suppress(SessionLost):  # its program has ended: that is to be read
                await socket.send(self._talk.resize(self._talk.columns, self._talk.rows))
        except BaseException:
            await socket.close()
            raise
        return socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.detach()
