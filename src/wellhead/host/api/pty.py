"""``/sandboxes/{id}/pty``: terminals, in the dialect that the visitor speaks.

Source: docs/reference/sandboxes-api.md, "Terminals".
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from wellhead.guest.pty import COLUMNS_MAX, ROWS_MAX
from wellhead.host.api.bodies import check_tag
from wellhead.host.api.context import Context
from wellhead.host.api.conversation import Conversation, conversation
from wellhead.host.api.dialect import Attach, Dialect
from wellhead.host.api.exec import read_command
from wellhead.host.api.pty_binary import PtyBinary
from wellhead.host.api.pty_json import PtyJson
from wellhead.host.api.pty_native import SUBPROTOCOL, PtyNative
from wellhead.model.sandboxes import SandboxId

COLUMNS = 80
ROWS = 24


class PtyRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [WebSocketRoute("/sandboxes/{id}/pty", self._pty)]

    async def _pty(self, websocket: WebSocket) -> None:
        await conversation(self._context, websocket, *self._dialect(websocket), self._begin)

    def _dialect(self, connection: HTTPConnection) -> tuple[str | None, Dialect]:
        terms = self._context.terms
        if SUBPROTOCOL in connection.scope["subprotocols"]:
            return SUBPROTOCOL, PtyNative(terms.message_bytes)
        if connection.headers.get("wellhead-dialect") == "legacy":
            return None, PtyJson(terms.paste_bytes)
        return None, PtyBinary(terms.paste_bytes)

    async def _begin(self, sandbox: SandboxId, talk: Conversation) -> None:
        wish = await talk.first()
        link = self._context.link(sandbox)
        if isinstance(wish, Attach):
            stream = await link.terminal_attach(check_tag(wish.tag), wish.after)
        else:
            command = read_command(wish.members, self._context.sandboxes.running(sandbox), shell=True)
            columns = wish.members.whole("cols", COLUMNS, 0, COLUMNS_MAX) or COLUMNS
            rows = wish.members.whole("rows", ROWS, 0, ROWS_MAX) or ROWS
            stream = await link.terminal(command, columns, rows, wish.members.tag("tag"))
        await talk.converse(stream, link, isinstance(wish, Attach))
