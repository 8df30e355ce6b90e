"""How a command ended and all that it wrote, as JSON that is made piece by piece.

A control character is six in JSON: to encode millions of them at once takes seconds, in which nobody else on
this host would be heard.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

from wellhead.errors import HostBusy
from wellhead.host.guest_stream import Exited

PIECE = 48 * 1024  # bytes encoded at once; base64 takes three at a time
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    output: bytes | bytearray
    errors: bytes | bytearray
    exited: Exited
    milliseconds: int

    @property
    def size(self) -> int:
        return len(self.output) + len(self.errors)


class Held:
    """What commands wrote that waits here until it is answered with, of all of them together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """While it lasts, what is told to the function is held; it raises HostBusy where that is too much."""
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._held + size > self._most:
                raise HostBusy(
                    f"what commands wrote and are yet to be answered with is more than {self._most} bytes"
                    " on this host: exec/stream has no such bound"
                )
            self._held += size
            mine += size

        try:
            yield take
        finally:
            self._held -= mine


async def answer(before: Mapping[str, object], ran: Ran, after: Mapping[str, object]) -> Response:
    """``before``, then what was written: text where both streams are UTF-8, else base64; then ``after``."""
    is_text = await _is_text(ran.output) and await _is_text(ran.errors)
    end = {"encoding": "utf-8" if is_text else "base64", "duration_ms": ran.milliseconds, **after}
    encode = _escaped if is_text else _base64

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(before).encode().removesuffix(b"}")
        for name, data in ((b"stdout", ran.output), (b"stderr", ran.errors)):
            yield b', "%b": "' % name
            for piece in encode(data):
                yield piece
                await asyncio.sleep(0)
            yield b'"'
        yield b", " + json.dumps(end).encode().removeprefix(b"{")

    if ran.size > PIECE:
        return StreamingResponse(body(), media_type=_JSON)
    return Response(b"".join([piece async for piece in body()]), media_type=_JSON)


def _pieces(data: bytes | bytearray) -> Iterator[tuple[memoryview, bool]]:
    """``data`` in pieces, and whether each is the last."""
    view = memoryview(data)
    for at in range(0, len(view), PIECE):
        yield view[at : at + PIECE], at + PIECE >= len(view)


async def _is_text(data: bytes | bytearray) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece, last in _pieces(data):
            decoder.decode(piece, last)
            await asyncio.sleep(0)
    except UnicodeDecodeError:
        return False
    return True


def _escaped(data: bytes | bytearray) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece, last in _pieces(data):
        yield json.dumps(decoder.decode(piece, last), ensure_ascii=False)[1:-1].encode()


def _base64(data: bytes | bytearray) -> Iterator[bytes]:
    for piece, _ in _pieces(data):
        yield base64.b64encode(piece)
