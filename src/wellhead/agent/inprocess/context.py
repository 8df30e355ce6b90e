"""What a handler is told beside its request."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from wellhead.agent.inprocess.head import RequestHead


class Cancellation:
    """Fires once: the visitor has left, or the answer comes too late. For the loop and for threads."""

    __slots__ = ("_event", "_loop", "_waiters")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Whether it has fired."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it fires, or for ``timeout`` seconds; whether it has. For handlers in a thread."""
        return self._event.wait(timeout)

    async def fired(self) -> None:
        """Wait until it fires. For handlers in the loop."""
        while not self._event.is_set():
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def fire(self) -> None:
        """In the loop."""
        self._event.set()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Context:
    """``forwarded_for_ip`` is the visitor's address as the edge tells it, empty where it does not;
    ``sni_host`` the name that its TLS was made for, None without TLS; ``envelope`` the request as it came.
    """

    request_id: str
    tunnel: str  # its name
    forwarded_for_ip: str
    sni_host: str | None
    envelope: RequestHead
    cancelled: Cancellation = field(default_factory=Cancellation)


def context_of(request: RequestHead, tunnel: str) -> Context:
    """The context of a request to ``tunnel``."""
    return Context(
        request_id=request.request_id,
        tunnel=tunnel,
        forwarded_for_ip=request.peer,
        sni_host=request.server[0] if request.scheme == "https" else None,
        envelope=request,
    )
