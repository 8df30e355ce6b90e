"""One connection of the host's, which is one operation: frames in and out, never more held than a few.

Nothing is queued: who sends waits until the kernel has taken it, and what is not asked for is not read. So a
slow host slows what it looks at, and a slow program slows the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from collections import deque
from collections.abc import Iterable, Iterator

from wellhead.errors import LinkError, ProtocolError
from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.waiting import readable
from wellhead.wire.guest import MESSAGE_MAX, GuestFrame, GuestFrames, message, read_message

_RECEIVE = 64 * 1024  # bytes at once
_FINISH_SECONDS = 5.0  # for a host to close what is over
_PAGE = MESSAGE_MAX // 2  # bytes of a list in one message


class HostGone(LinkError):
    """The host has closed the connection."""


class Connection:
    """Reading is for one task, sending for one task."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.frames = GuestFrames()
        self.ready: deque[tuple[GuestFrame, bytes]] = deque()
        self._in_a_frame = False

    async def next(self) -> tuple[GuestFrame, bytes] | None:
        """The next frame; None when the host has closed.

        Raises:
            Refusal: bytes that are no frames (invalid).
        """
        loop = asyncio.get_running_loop()
        while not self.ready:
            try:
                data = await loop.sock_recv(self.sock, _RECEIVE)
            except OSError:
                return None
            if not data:
                return None
            try:
                self.ready.extend(self.frames.receive(data))
            except ProtocolError as error:
                raise Refusal(Word.INVALID, str(error)) from error
            await asyncio.sleep(0)  # a host that sends without a pause leaves the others their turn
        return self.ready.popleft()

    async def next_message(self) -> dict[str, object] | None:
        """
        Raises:
            Refusal: a frame of another kind, or no JSON object (invalid).
        """
        found = await self.next()
        return None if found is None else as_message(*found)

    async def send(self, data: bytes) -> None:
        """
        Raises:
            HostGone
        """
        self._in_a_frame = True
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except OSError as error:
            raise HostGone from error
        self._in_a_frame = False

    async def answer(self, members: dict[str, object]) -> None:
        await self.send(message(members))

    async def answer_list(self, name: str, items: Iterable[dict[str, object]]) -> None:
        """An ``ok`` with a list, in as many messages as it takes; all but the last say that there is more."""
        for page, is_last in pages(items):
            await self.answer({"ok" if is_last else "more": {name: page}})

    async def refuse(self, refusal: Refusal) -> None:
        """Say why not, unless a frame was cut short and nothing can be told any more."""
        if not self._in_a_frame:
            await self.answer(refused_members(refusal))

    async def gone(self) -> None:
        """Until the host has closed its side, also while frames of it lie unread."""
        if not hasattr(select, "epoll"):
            await asyncio.Event().wait()
        watch = select.epoll()  # a poll of its own: the loop's would report the unread frames
        try:
            watch.register(self.sock, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
            await readable(watch.fileno())
        finally:
            watch.close()

    async def finish(self) -> None:
        """End our side, and for a while take what the host still sends.

        A host that writes to a closed connection may lose what it has not read yet.
        """
        with contextlib.suppress(OSError, TimeoutError):
            self.sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_FINISH_SECONDS):
                loop = asyncio.get_running_loop()
                while True:
                    if not await loop.sock_recv(self.sock, _RECEIVE):
                        return
                    await asyncio.sleep(0)

    def close(self) -> None:
        self.sock.close()


def pages(items: Iterable[dict[str, object]]) -> Iterator[tuple[list[dict[str, object]], bool]]:
    """The items, as many at a time as a message holds, and whether they are the last."""
    page: list[dict[str, object]] = []
    size = 0
    for item in items:
        more = len(json.dumps(item)) + 1
        if page and size + more > _PAGE:
            yield page, False
            page, size = [], 0
        page.append(item)
        size += more
    yield page, True


def as_message(kind: GuestFrame, payload: bytes) -> dict[str, object]:
    """
    Raises:
        Refusal: another kind, or no JSON object (invalid).
    """
    if kind is not GuestFrame.MESSAGE:
        raise Refusal(Word.INVALID, f"a frame of kind {kind.name} where a MESSAGE belongs")
    try:
        return read_message(payload)
    except ProtocolError as error:
        raise Refusal(Word.INVALID, str(error)) from error


def refused_members(refusal: Refusal) -> dict[str, object]:
    return {"error": {"code": refusal.word.value, "message": str(refusal)}}
