"""A command in a sandbox whose output is read as it is written, and whose input is sent to it.

>>> with sandbox.exec_stream("make test") as running:
...     for piece in running:
...         print(piece.channel.name, piece.data)
...     print(running.end.exit_code)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

from wellhead.client.heard import Heard
from wellhead.client.sandbox_records import Channel, ExecResult, Exit, Output
from wellhead.client.sockets import AsyncSocket, Socket
from wellhead.client.talks import (
    END_OF_INPUT,
    ExecTalk,
    check_bytes,
    input_messages,
    kill_message,
    signal_message,
)
from wellhead.errors import LinkError, StateError


class _Running(Heard[ExecTalk]):
    """A command that runs."""

    @property
    def tag(self) -> str | None:
        return self._talk.tag


class ExecStream(_Running):
    """Iterating gives the output, and ends with the command. Closing it kills a command of its own.

    One that was attached to a background process is only left by that.
    """

    def __init__(self, socket: Socket, talk: ExecTalk) -> None:
        super().__init__(talk)
        self._socket = socket

    @classmethod
    def begin(cls, socket: Socket, talk: ExecTalk, first: str | None) -> Self:
        """Say ``first`` and wait until it has started."""
        try:
            if first is not None:
                socket.send(first)
            while not talk.opened:
                talk.take(socket.receive())
        except BaseException:
            socket.close()
            raise
        return cls(socket, talk)

    def __iter__(self) -> Iterator[Output]:
        while self._talk.end is None:
            if (output := self._talk.take(self._socket.receive())) is not None:
                yield output
        self.close()

    def send(self, data: bytes) -> None:
        """Bytes for its standard input; waits while it reads too slowly."""
        for message in input_messages(data):
            self._socket.send(message)

    def close_stdin(self) -> None:
        self._socket.send(END_OF_INPUT)

    def signal(self, signal: str) -> None:
        """Send it a signal, such as ``INT``."""
        self._socket.send(signal_message(signal))

    def kill(self) -> None:
        """End it and all that it started."""
        self._socket.send(kill_message())

    def result(self, stdin: bytes = b"") -> ExecResult:
        """Wait for its end; all that was not iterated over, and how it ended.

        Raises:
            CommandTimeout: its time was over.
            InputError: ``stdin`` is no bytes.
        """
        check_bytes(stdin)
        if self._talk.end is not None:
            return self._talk.end.result(b"", b"")
        written = _Written()
        feeding = threading.Thread(target=self._feed, args=(stdin,), name="stdin", daemon=True)
        feeding.start()
        for output in self:
            written.take(output)
        feeding.join()
        return written.result(self._talk.end)

    def _feed(self, stdin: bytes) -> None:
        # A command may end before it has read all of it.
        with contextlib.suppress(LinkError):
            if stdin:
                self.send(stdin)
                self.close_stdin()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncExecStream(_Running):
    """``ExecStream``, awaited."""

    def __init__(self, socket: AsyncSocket, talk: ExecTalk) -> None:
        super().__init__(talk)
        self._socket = socket

    @classmethod
    async def begin(cls, socket: AsyncSocket, talk: ExecTalk, first: str | None) -> Self:
        try:
            if first is not None:
                await socket.send(first)
            while not talk.opened:
                talk.take(await socket.receive())
        except BaseException:
            await socket.close()
            raise
        return cls(socket, talk)

    async def __aiter__(self) -> AsyncIterator[Output]:
        while self._talk.end is None:
            if (output := self._talk.take(await self._socket.receive())) is not None:
                yield output
        await self.close()

    async def send(self, data: bytes) -> None:
        for message in input_messages(data):
            await self._socket.send(message)

    async def close_stdin(self) -> None:
        await self._socket.send(END_OF_INPUT)

    async def signal(self, signal: str) -> None:
        await self._socket.send(signal_message(signal))

    async def kill(self) -> None:
        await self._socket.send(kill_message())

    async def result(self, stdin: bytes = b"") -> ExecResult:
        check_bytes(stdin)
        if self._talk.end is not None:
            return self._talk.end.result(b"", b"")
        written = _Written()
        feeding = asyncio.create_task(self._feed(stdin), name="stdin")
        try:
            async for output in self:
                written.take(output)
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
        return written.result(self._talk.end)

    async def _feed(self, stdin: bytes) -> None:
        with contextlib.suppress(LinkError):
            if stdin:
                await self.send(stdin)
                await self.close_stdin()

    async def close(self) -> None:
        await self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Written:
    """Pieces, put together."""

    def __init__(self) -> None:
        self._pieces: dict[Channel, list[bytes]] = {channel: [] for channel in Channel}

    def take(self, output: Output) -> None:
        self._pieces[output.channel].append(output.data)

    def result(self, end: Exit | None) -> ExecResult:
        if end is None:
            raise StateError("a command is over, and nobody said how")
        stdout, stderr = (b"".join(self._pieces[channel]) for channel in (Channel.STDOUT, Channel.STDERR))
        return end.result(stdout, stderr)
