"""The WebSockets of commands: one that is begun here, and those that run in the background.

Source: docs/reference/sandboxes-api.md, "Streams of commands".
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from wellhead.errors import HostInvalid
from wellhead.host.api.bodies import check_selector, query_number
from wellhead.host.api.context import Context
from wellhead.host.api.conversation import Conversation, conversation
from wellhead.host.api.dialect import Dialect, Start
from wellhead.host.api.exec import read_command
from wellhead.host.api.exec_json import ExecJson
from wellhead.host.api.exec_native import SUBPROTOCOL, ExecNative
from wellhead.model.sandboxes import SandboxId


class StreamRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [
            WebSocketRoute("/sandboxes/{id}/exec/stream", self._exec),
            WebSocketRoute("/sandboxes/{id}/processes/{selector}/stream", self._process),
            WebSocketRoute("/sandboxes/{id}/logs", self._logs),
        ]

    async def _exec(self, websocket: WebSocket) -> None:
        await conversation(self._context, websocket, *self._dialect(websocket), self._begin)

    async def _process(self, websocket: WebSocket) -> None:
        await self._listen(websocket, websocket.path_params["selector"])

    async def _logs(self, websocket: WebSocket) -> None:
        await self._listen(websocket, websocket.query_params.get("selector", ""))

    def _dialect(self, connection: HTTPConnection) -> tuple[str | None, Dialect]:
        terms = self._context.terms
        if SUBPROTOCOL in connection.scope["subprotocols"]:
            return SUBPROTOCOL, ExecNative(terms.message_bytes)
        return None, ExecJson(terms.body_bytes)

    async def _begin(self, sandbox: SandboxId, talk: Conversation) -> None:
        wish = await talk.first()
        if not isinstance(wish, Start):
            raise HostInvalid("a command is begun, not attached to")
        asked, context = wish.members, self._context
        ours = "argv" in asked
        seconds = asked.seconds(
            "timeout_seconds" if ours else "timeout_sec", None, context.terms.exec_seconds_max
        )
        with context.sandboxes.busy(sandbox) as entry:
            link = context.way(entry)
            stream = await link.run(
                read_command(asked, entry),
                stdin=ours and asked.flag("stdin", False),
                timeout_seconds=seconds,
                tag=asked.tag("tag"),
            )
            await talk.converse(stream, link, False)

    async def _listen(self, websocket: WebSocket, selector: str) -> None:
        async def listen(sandbox: SandboxId, talk: Conversation) -> None:
            link = self._context.link(sandbox)
            after = query_number(websocket, "after")
            stream = await link.attach(check_selector(selector), after)
            await talk.converse(stream, link, True)

        await conversation(self._context, websocket, *self._dialect(websocket), listen)
