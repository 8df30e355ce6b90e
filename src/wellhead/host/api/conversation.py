"""A visitor's WebSocket and a process in a sandbox: what one says, put into the other's words.

::

    first message -> Start | Attach -> the guest's stream -> outgoing, incoming, pings, until one ends
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.websockets import WebSocket, WebSocketDisconnect

from wellhead.errors import HostError, HostInvalid, HostTooLarge
from wellhead.guest.pty import COLUMNS_MAX, ROWS_MAX
from wellhead.guest.waiting import first_of
from wellhead.host.api.context import Context
from wellhead.host.api.dialect import (
    Attach,
    Dialect,
    EndInput,
    Input,
    Message,
    Resize,
    Signal,
    Start,
    Wish,
)
from wellhead.host.api.errors import problem
from wellhead.host.guest_link import GuestLink
from wellhead.host.guest_stream import Exited, GuestStream
from wellhead.model.sandboxes import SandboxId

_OVER = 1000
_POLICY = 1008
_TOO_BIG = 1009
_FAILED = 1011


class Conversation:
    """One WebSocket, once accepted. ``begin`` turns the first wish, None where none is due, into a stream."""

    def __init__(self, context: Context, sandbox: SandboxId, websocket: WebSocket, dialect: Dialect) -> None:
        self._terms = context.terms
        self._touch = partial(context.sandboxes.touch, sandbox)
        self._stir = partial(context.sandboxes.stir, sandbox)
        self._websocket = websocket
        self._dialect = dialect

    async def first(self) -> Start | Attach:
        """The message that says what this is about.

        Raises:
            HostInvalid: another one, or none in its time.
        """
        seconds = self._terms.first_seconds
        try:
            async with asyncio.timeout(seconds):
                wish = await self._wish()
        except TimeoutError:
            raise HostInvalid(f"no first message within {seconds:g} s") from None
        if not isinstance(wish, Start | Attach):
            raise HostInvalid("the first message does not say what to begin")
        return wish

    async def converse(self, stream: GuestStream, link: GuestLink, attached: bool) -> None:
        """Carry both ways until the process has ended, or the visitor has left.

        Raises:
            HostError: what went wrong, for ``refuse``.
        """
        if not attached:
            self._stir()
        try:
            await self._say(self._dialect.begun(stream, attached))
            await first_of(self._outgoing(stream), self._incoming(stream, link), self._pings())
        finally:
            stream.close()

    async def refuse(self, error: HostError) -> None:
        """Tell what went wrong, and close."""
        await self._say(self._dialect.failed(error, True))
        if isinstance(error, HostTooLarge):
            await self.close(_TOO_BIG)
        else:
            await self.close(_POLICY if error.status < 500 else _FAILED)

    async def close(self, code: int = _OVER) -> None:
        await self._websocket.close(code)

    async def _outgoing(self, stream: GuestStream) -> None:
        while True:
            for told in await stream.told():
                self._touch()
                await self._say(self._dialect.told(told))
                if isinstance(told, Exited):
                    return

    async def _incoming(self, stream: GuestStream, link: GuestLink) -> None:
        while True:
            wish = await self._wish()
            if wish is not None:
                self._stir()
                await self._grant(wish, stream, link)

    async def _grant(self, wish: Wish, stream: GuestStream, link: GuestLink) -> None:
        if isinstance(wish, Input):
            with contextlib.suppress(HostError):  # whoever tells its output hears why nothing is taken
                await stream.send(wish.data)
        elif isinstance(wish, EndInput):
            stream.end_input()
        elif isinstance(wish, Resize):
            try:
                check_size(wish.columns, wish.rows)
            except HostInvalid as error:
                await self._say(self._dialect.failed(error, False))
            else:
                stream.resize(wish.columns, wish.rows)
        elif isinstance(wish, Signal):
            # a connection of its own: input that the process does not read must not hold it up
            try:
                await link.signal(str(stream.pid), wish.name)
            except HostError as error:
                await self._say(self._dialect.failed(error, False))
        else:
            raise HostInvalid("this conversation has begun already")

    async def _pings(self) -> None:
        while True:
            await asyncio.sleep(self._terms.ping_seconds)
            await self._say(self._dialect.ping())

    async def _wish(self) -> Wish | None:
        received = await self._websocket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005), received.get("reason"))
        found = received.get("text")
        message: Message = received["bytes"] if found is None else found
        size = len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
        if size > self._dialect.message_bytes:
            raise HostTooLarge(f"a message of {size} bytes, at most {self._dialect.message_bytes} allowed")
        return self._dialect.read(message)

    async def _say(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)


def check_size(columns: int, rows: int) -> None:
    """
    Raises:
        HostInvalid: no size that a terminal may have.
    """
    if not 1 <= rows <= ROWS_MAX:
        raise HostInvalid(f"a terminal of {rows} rows, not 1 to {ROWS_MAX}")
    if not 1 <= columns <= COLUMNS_MAX:
        raise HostInvalid(f"a terminal of {columns} columns, not 1 to {COLUMNS_MAX}")


async def conversation(
    context: Context,
    websocket: WebSocket,
    subprotocol: str | None,
    dialect: Dialect,
    about: Callable[[SandboxId, Conversation], Awaitable[None]],
) -> None:
    """Accept a WebSocket for a sandbox that runs, and hold a conversation on it; else refuse it by HTTP."""
    try:
        sandbox = context.asked(websocket)
        context.sandboxes.running(sandbox)
    except HostError as error:
        await websocket.send_denial_response(problem(error))
        return
    talk = Conversation(context, sandbox, websocket, dialect)
    try:
        await websocket.accept(subprotocol)
        try:
            await about(sandbox, talk)
        except HostError as error:
            await talk.refuse(error)
        else:
            await talk.close()
    except WebSocketDisconnect:
        pass  # the visitor has left
