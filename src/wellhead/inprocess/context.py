"""What a handler is told beside its request."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from wellhead.inprocess.head import RequestHead

_making = threading.Lock()


class Cancellation:
    """Fires once: the visitor has left, or the answer comes too late. For the loop and for threads."""

    __slots__ = ("_event", "_fired", "_waiters")

    def __init__(self) -> None:
        self._fired = False
        self._event: threading.Event | None = None  # made when a thread waits: one for every request is dear
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Whether it has fired."""
        return self._fired

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it fires, or for ``timeout`` seconds; whether it has. For handlers in a thread."""
        with _making:
            event = self._event = self._event or threading.Event()
        return self._fired or event.wait(
            timeout
        )  # asked after it can be set: ``fire`` looks in the other order

    async def fired(self) -> None:
        """Wait until it fires. For handlers in the loop."""
        while not self._fired:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def fire(self) -> None:
        """In the loop."""
        self._fired = True
        if self._event is not None:
            self._event.set()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


@dataclass(slots=True, eq=False)
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
