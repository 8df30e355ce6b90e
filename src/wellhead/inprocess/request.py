"""A visitor's request, as a handler reads it: in the loop with ``await``, in a thread without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.datastructures import Headers, QueryParams

from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import RequestHead
from wellhead.inprocess.threads import awaited


class Asked:
    """What a visitor asked for, with a request or for a WebSocket."""

    def __init__(self, head: RequestHead) -> None:
        self.path = head.path  # percent-decoded
        self.target = head.target.decode("latin-1")  # path and query, as the visitor sent them
        self._head = head

    @property
    def headers(self) -> Headers:
        """By name in any case; ``getlist`` gives all of a name."""
        return Headers(raw=list(self._head.headers))

    @property
    def query(self) -> QueryParams:
        """What stands behind the question mark, decoded; ``getlist`` gives all of a name."""
        return QueryParams(self._head.query)


class _Head(Asked):
    """What is known before the body."""

    def __init__(self, head: RequestHead, flow: Flow) -> None:
        super().__init__(head)
        self.method = head.method
        self._flow = flow
        self._body: bytes | None = None

    @property
    def url(self) -> str:
        """As the visitor asked for it."""
        return f"{self._head.scheme}://{self._head.authority}{self.target}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method} {self.target!r})"


class Request(_Head):
    """For handlers in the loop. The body is read once: in pieces as they come, or whole."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._flow.read():
            yield piece

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            VisitorGone: the visitor left before its end.
        """
        if self._body is None:
            self._body = b"".join([piece async for piece in self])
        return self._body

    async def text(self) -> str:
        """The whole body, as UTF-8."""
        return (await self.body()).decode()

    async def json(self) -> Any:
        """The whole body, as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(await self.body())


class SyncRequest(_Head):
    """For handlers in a thread: the words of ``Request``, without ``await``."""

    def __init__(self, head: RequestHead, flow: Flow) -> None:
        super().__init__(head, flow)
        self._loop = asyncio.get_running_loop()

    def __iter__(self) -> Iterator[bytes]:
        while piece := awaited(self._loop, self._flow.read):
            yield piece

    def body(self) -> bytes:
        """The whole body.

        Raises:
            VisitorGone: the visitor left before its end.
        """
        if self._body is None:
            self._body = b"".join(self)
        return self._body

    def text(self) -> str:
        """The whole body, as UTF-8."""
        return self.body().decode()

    def json(self) -> Any:
        """The whole body, as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body())
