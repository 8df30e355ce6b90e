"""One connection with the program inside a sandbox: frames as they come, and room for those that go."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import cast

from wellhead.errors import HostError, HostState, HostTooLarge, ProtocolError
from wellhead.wire.guest import MESSAGE_MAX, GuestFrame, GuestFrames, frame, message

HELD_BYTES = 128 * 1024  # of frames that nobody has taken; then the guest waits
QUEUED_BYTES = 1024 * 1024  # of input that the guest has not taken; then whoever sends waits
PIECE = 64 * 1024  # bytes of a frame of input

Frame = tuple[GuestFrame, bytes]


class GuestCall(asyncio.Protocol):
    """An operation under way. One task takes frames; ``send`` may be called beside it."""

    def __init__(self) -> None:
        self._reader = GuestFrames()
        self._frames: list[Frame] = []
        self._held = 0  # bytes of them
        self._paused = False
        self._over = False
        self._failure: HostError | None = None
        self._news: asyncio.Future[None] | None = None
        self._full = False
        self._room: list[asyncio.Future[None]] = []
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, path: Path, seconds: float) -> GuestCall:
        """A connection with the guest that listens at ``path``.

        Raises:
            HostState: nobody does.
            HostError: nobody answered within ``seconds``.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, call = await loop.create_unix_connection(cls, str(path))
        except TimeoutError:
            raise HostError(f"the sandbox took no connection within {seconds:g} s") from None
        except OSError as error:
            raise HostState("the sandbox is not running: nothing in it answers") from error
        return call

    # What the guest says

    @property
    def waiting(self) -> bool:
        """Frames are there that nobody took, or none will come any more."""
        return bool(self._frames) or self._over

    async def frames(self) -> list[Frame]:
        """What came since the last time, at least one frame; none once the guest has closed.

        Raises:
            HostError: it broke the protocol.
        """
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            if self._over:
                return []
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        frames, self._frames = self._frames, []
        self._held = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return frames

    async def frame(self, seconds: float | None) -> Frame:
        """The next frame; those behind it wait.

        Raises:
            HostError: none came within ``seconds``, or the guest is gone.
        """
        try:
            async with asyncio.timeout(seconds):
                frames = await self.frames()
        except TimeoutError:
            raise HostError(f"the sandbox did not answer within {seconds:g} s") from None
        if not frames:
            raise HostError("the sandbox ended the conversation")
        self._frames = frames[1:]
        self._held = sum(len(payload) for _, payload in self._frames)
        return frames[0]

    # What it is told

    def tell(self, members: dict[str, object]) -> None:
        """Say a message, whatever waits before it.

        Raises:
            HostTooLarge: it is longer than a guest reads.
        """
        data = message(members)
        if len(data) > MESSAGE_MAX:
            raise HostTooLarge(f"a command of {len(data)} bytes in JSON, at most {MESSAGE_MAX} allowed")
        self._write(data)

    async def send(self, data: bytes) -> None:
        """Send input, and wait while the guest does not keep up.

        Raises:
            HostError: it is gone.
        """
        for at in range(0, len(data), PIECE):
            self._write(frame(GuestFrame.INPUT, data[at : at + PIECE]))
            while self._full and not self._over:
                room = asyncio.get_running_loop().create_future()
                self._room.append(room)
                await room
        if self._over:
            raise self._failure or HostError("the sandbox ended the conversation")

    def end(self) -> None:
        """No more input follows."""
        self._write(frame(GuestFrame.END))

    def close(self) -> None:
        """Give up the connection; idempotent."""
        if not self._over:  # asyncio's transports of 3.11 do not always take a second end
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if not self._over:
            self._transport.write(data)

    # The connection's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._transport.set_write_buffer_limits(high=QUEUED_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            for received in self._reader.receive(data):
                self._frames.append(received)
                self._held += len(received[1])
        except ProtocolError as error:
            self._failure = HostError(f"the sandbox broke the protocol: {error}")
            self._transport.abort()
        if self._held > HELD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._failure is None:
            self._read_rest()
        self._over = True
        self._wake()
        self.resume_writing()

    def _read_rest(self) -> None:
        """What the guest said before it closed: a transport whose write has failed does not read it."""
        with contextlib.suppress(OSError):
            fd = self._transport.get_extra_info("socket").fileno()
            while data := os.read(fd, PIECE):
                self.data_received(data)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        waiting, self._room = self._room, []
        for room in waiting:
            if not room.done():
                room.set_result(None)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
