"""``/api/v1/events/stream``: what happens to sandboxes and hosts, told as it happens.

Source: wrenn-sandboxes, "5.3 Every call it makes", events.stream.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from wellhead.control.access import Key, need_admin
from wellhead.control.shown import sandbox_record
from wellhead.control.store.sandbox_tables import SandboxRow
from wellhead.errors import ApiError
from wellhead.logs import Log
from wellhead.model.names import Public
from wellhead.model.records import Actor, OrganizationId
from wellhead.model.sandbox_records import Sandbox

KEEPALIVE_SECONDS = 30.0
WAITING_MAX = 1000  # events for one listener; who reads slower than they come is let go
LISTENERS_MAX = 100  # of an organization

_log = Log("wellhead.control")


class EventKind(enum.Enum):
    CONNECTED = "connected"
    CREATE = "capsule.create"
    PAUSE = "capsule.pause"
    RESUME = "capsule.resume"
    DESTROY = "capsule.destroy"
    STATE_CHANGED = "capsule.state.changed"
    SNAPSHOT_CREATE = "template.snapshot.create"
    SNAPSHOT_DELETE = "template.snapshot.delete"
    HOST_UP = "host.up"
    HOST_DOWN = "host.down"


@dataclass(frozen=True, slots=True)
class Resource:
    id: str
    type: Literal["sandbox", "template", "host"]


@dataclass(frozen=True, slots=True)
class EventActor:
    type: Literal["api_key", "system"]
    id: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, by: Actor) -> EventActor:
        return cls("system") if by.key_id is None else cls("api_key", by.key_id, by.key_last4)


@dataclass(frozen=True, slots=True)
class Event:
    """``outcome`` is of what somebody asked for; ``error`` says why that failed."""

    event: EventKind
    timestamp: datetime
    outcome: Literal["success", "error"] | None = None
    resource: Resource | None = None
    actor: EventActor | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    sandbox: Sandbox | None = None


_event = TypeAdapter(Event)


class Hub:
    """Tells each listener of an organization what happens there, from when it began to listen."""

    def __init__(self, clock: Callable[[], datetime], public: Public) -> None:
        self.clock = clock
        self._public = public
        self._listeners: dict[OrganizationId, set[asyncio.Queue[Event | None]]] = {}
        self._closed = False

    def publish(self, organization_id: OrganizationId, event: Event) -> None:
        for queue in list(self._listeners.get(organization_id, ())):
            if queue.qsize() >= WAITING_MAX:
                _log.warning("listener let go", reason="events-waiting", waiting=queue.qsize())
                self._end(organization_id, queue)
            else:
                queue.put_nowait(event)

    def tell(
        self,
        row: SandboxRow,
        event: EventKind,
        by: Actor,
        error: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Publish what became of a sandbox. ``error``: why what was asked for failed."""
        outcome: Literal["success", "error"] | None = "success" if error is None else "error"
        self.publish(
            OrganizationId(row.organization_id),
            Event(
                event=event,
                timestamp=self.clock(),
                outcome=None if event is EventKind.STATE_CHANGED else outcome,
                resource=Resource(row.id, "sandbox"),
                actor=EventActor.of(by),
                metadata=dict(metadata or {}),
                error=error,
                sandbox=sandbox_record(row, self._public),
            ),
        )

    def close(self) -> None:
        """End every listener's stream; a later one is told that it is connected and nothing more."""
        self._closed = True
        for organization_id, queues in list(self._listeners.items()):
            for queue in list(queues):
                self._end(organization_id, queue)

    def check_room(self, organization_id: OrganizationId) -> None:
        """
        Raises:
            ApiError: the organization has as many listeners as it may.
        """
        there = len(self._listeners.get(organization_id, ()))
        if there >= LISTENERS_MAX:
            detail = f"{there} event streams are open, at most {LISTENERS_MAX} are allowed"
            raise ApiError(429, detail, retry_after_seconds=KEEPALIVE_SECONDS, reason="api-event-streams")

    async def stream(self, organization_id: OrganizationId) -> AsyncIterator[bytes]:
        """Server-sent events, until the listener or the server goes."""
        with self._listening(organization_id) as queue:
            yield _frame(Event(EventKind.CONNECTED, self.clock()))
            while not self._closed or not queue.empty():
                try:
                    async with asyncio.timeout(KEEPALIVE_SECONDS):
                        event = await queue.get()
                except TimeoutError:
                    yield b": keepalive\n\n"
                    continue
                if event is None:
                    return
                yield _frame(event)

    @contextmanager
    def _listening(self, organization_id: OrganizationId) -> Iterator[asyncio.Queue[Event | None]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners.setdefault(organization_id, set()).add(queue)
        try:
            yield queue
        finally:
            self._forget(organization_id, queue)

    def _end(self, organization_id: OrganizationId, queue: asyncio.Queue[Event | None]) -> None:
        self._forget(organization_id, queue)
        queue.put_nowait(None)

    def _forget(self, organization_id: OrganizationId, queue: asyncio.Queue[Event | None]) -> None:
        listeners = self._listeners.get(organization_id, set())
        listeners.discard(queue)
        if not listeners:
            self._listeners.pop(organization_id, None)


def _frame(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        event.event.value.encode(),
        _event.dump_json(event, exclude_none=True),
    )


def router(hub: Hub) -> APIRouter:
    routes = APIRouter(prefix="/events", tags=["sandboxes"])

    @routes.get(
        "/stream",
        operation_id="stream_events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def stream_events(request: Request, key: Key) -> StreamingResponse:
        """What happens to the organization's sandboxes, templates and hosts, as server-sent events.

        The first is `connected`; `data` is JSON. A comment comes every 30 seconds in which nothing happens.
        """
        need_admin(key)
        hub.check_room(key.organization_id)
        events = hub.stream(key.organization_id)
        return StreamingResponse(_nothing() if request.state.head else events, media_type="text/event-stream")

    return routes


async def _nothing() -> AsyncIterator[bytes]:
    yield b""
