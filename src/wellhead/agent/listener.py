"""``TunnelListener``: a tunnel that is being answered for, until it is closed.

It is driven in one of two ways, by how it was made: ``wellhead.connect`` gives one with a thread and a
loop of its own, for ``wait`` and ``close``; ``wellhead.connect_async`` one in the caller's loop, for
``serve_forever`` and ``aclose``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from wellhead.agent.forwarding import Upstream
from wellhead.agent.passthrough import ALPN, Passthrough
from wellhead.agent.renewal import Renewal
from wellhead.errors import StateError, WellheadError
from wellhead.logs import Log
from wellhead.model.records import Tunnel
from wellhead.net.carrier import Offer
from wellhead.net.keypair import KeyPair
from wellhead.net.uplink import EdgeAddress, OnStatus, Status, Uplink, UplinkTimes
from wellhead.wire.messages import Welcome

_log = Log("wellhead.agent")
JOIN_SECONDS = 30.0  # how long ``close`` waits for its thread


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a listener needs to begin."""

    tunnel: Tunnel | None  # None: known by its connect secret only, until the edge welcomes us
    edge: EdgeAddress
    carriers: Offer
    public_urls: tuple[str, ...]
    times: UplinkTimes
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class TlsEnd:
    """Of a tunnel whose visitors' TLS ends in the agent."""

    passthrough: Passthrough
    renewal: Renewal

    async def renew(self) -> None:
        """Have visitors shown each new certificate. Ends by being cancelled only."""

        def use(pair: KeyPair) -> None:
            self.passthrough.context = pair.context(ALPN)

        await self.renewal.run(use)


class TunnelListener:
    """The tunnel, its public addresses and how its connection is doing. Made by ``connect`` only."""

    def __init__(
        self, plan: Plan, pool: Upstream, on_status: OnStatus | None, ending: TlsEnd | None = None
    ) -> None:
        self.tunnel = plan.tunnel
        self._public_urls = plan.public_urls
        self._drain_seconds = plan.drain_seconds
        self._pool = pool
        self._ending = ending
        self._after: Callable[[], Awaitable[None]] | None = None
        self._watchers: list[OnStatus] = [] if on_status is None else [on_status]
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None  # ours, for a listener of ``connect``
        self._error: WellheadError | None = None
        self._settled: asyncio.Future[None] = self._loop.create_future()  # the first dial has an outcome
        self._over = threading.Event()
        self._closing: asyncio.Task[None] | None = None
        self._uplink = Uplink(
            plan.edge,
            plan.carriers(pool.accept if ending is None else ending.passthrough.accept),
            on_status=self._status_changed,
            on_welcome=self._welcomed,
            times=plan.times,
        )
        self._dialling = self._loop.create_task(self._uplink.run(), name="tunnel uplink")
        self._running = self._loop.create_task(self._run(), name="tunnel listener")

    # What it tells

    def __repr__(self) -> str:
        return f"<TunnelListener {self.public_url} {self.status.value}>"

    @property
    def public_url(self) -> str:
        """Where visitors find the tunnel: ``https://…``."""
        return self._public_urls[0]

    @property
    def public_urls(self) -> list[str]:
        return list(self._public_urls)

    @property
    def ends_tls(self) -> bool:
        """Whether visitors' TLS ends here: nobody else can tell whose a request was."""
        return self._ending is not None

    @property
    def status(self) -> Status:
        return self._uplink.status

    @property
    def error(self) -> WellheadError | None:
        """What ended it; None while it runs and after a ``close``."""
        return self._error

    def on_status(self, call: OnStatus) -> None:
        """Have ``call(status, error)`` told of every change, from the listener's loop: it must not block."""
        self._watchers.append(call)

    # Sync

    def wait(self, timeout: float | None = None) -> bool:
        """Until the tunnel is closed; whether it is (False only after ``timeout`` seconds).

        Raises:
            StateError: the listener is one of ``connect_async``.
            WellheadError: why it ended, unless ``close`` did it.
        """
        self._be(sync=True, called="wait()", instead="await serve_forever()")
        if not self._over.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def close(self) -> None:
        """Finish what runs (for a while) and hang up. Idempotent; may be called from any thread.

        Raises:
            StateError: the listener is one of ``connect_async``.
        """
        self._be(sync=True, called="close()", instead="await aclose()")
        if threading.current_thread() is self._thread:
            raise StateError("close() called from the listener's own thread would wait for itself")
        if not self._over.is_set():
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                asyncio.run_coroutine_threadsafe(self._aclose(), self._loop)
        self._over.wait(self._drain_seconds + JOIN_SECONDS)
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def __enter__(self) -> Self:
        self._be(sync=True, called="with", instead="async with")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Async

    async def serve_forever(self) -> None:
        """Until the tunnel is closed. Cancelling it closes the tunnel.

        Raises:
            StateError: the listener is one of ``connect``.
            WellheadError: why it ended, unless ``aclose`` did it.
        """
        self._be(sync=False, called="serve_forever()", instead="wait()")
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            await self._aclose()
            raise
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """Finish what runs (for a while) and hang up. Idempotent.

        Raises:
            StateError: the listener is one of ``connect``.
        """
        self._be(sync=False, called="aclose()", instead="close()")
        await self._aclose()

    async def __aenter__(self) -> Self:
        self._be(sync=False, called="async with", instead="with")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._aclose()

    # For connect

    async def settled(self) -> None:
        """Until the first dial was welcomed or failed in a way that is tried again.

        Raises:
            WellheadError: it failed for good.
        """
        await self._settled
        if self._error is not None:
            raise self._error

    async def abandon(self) -> None:
        """Give up before anybody drives it."""
        await self._aclose()

    def at_end(self, call: Callable[[], Awaitable[None]]) -> None:
        """Await ``call()`` when nothing is answered any more."""
        self._after = call

    def in_thread(self, thread: threading.Thread) -> None:
        """The listener's loop runs in ``thread``."""
        self._thread = thread

    async def ended(self) -> None:
        """Until nothing of it runs any more."""
        await asyncio.shield(self._running)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def _be(self, *, sync: bool, called: str, instead: str) -> None:
        if sync != (self._thread is not None):
            maker = "wellhead.connect" if self._thread is not None else "wellhead.connect_async"
            raise StateError(f"{called} does not fit a listener of {maker}: use {instead}")

    # The work

    async def _run(self) -> None:
        renewing = None if self._ending is None else self._loop.create_task(self._ending.renew())
        try:
            await self._dialling
        except asyncio.CancelledError:
            if self._closing is None:
                raise
        except WellheadError as error:
            self._error = error
        except Exception as error:
            _log.error("listener failed", error=error)
            self._error = StateError(f"the listener failed: {error!r}")
        finally:
            if not self._settled.done():
                self._settled.set_result(None)
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
            if self._ending is not None:
                await self._ending.passthrough.close()
            await self._pool.aclose()
            if self._after is not None:
                await self._after()
            self._over.set()

    async def _aclose(self) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close_down(), name="tunnel listener, closing")
        await asyncio.shield(self._closing)

    async def _close_down(self) -> None:
        self._pool.drain()
        if self._ending is None:
            await self._uplink.aclose(self._drain_seconds)
        else:  # a connection that is kept for later would never end by itself
            house = self._ending.passthrough
            await asyncio.gather(
                self._uplink.aclose(self._drain_seconds, lambda: house.is_empty),
                house.drain(self._drain_seconds),
            )
        self._dialling.cancel()  # where it waits for a dial or a pause
        await asyncio.gather(self._running, return_exceptions=True)

    # From the uplink

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.public_urls:
            self._public_urls = tuple(welcome.public_urls)

    def _status_changed(self, status: Status, error: WellheadError | None) -> None:
        if not self._settled.done() and status in (Status.CONNECTED, Status.RECONNECTING):
            self._settled.set_result(None)
        if status is Status.DRAINING and self._ending is not None:
            self._ending.passthrough.leave()
        for call in self._watchers:
            try:
                call(status, error)
            except Exception as failure:
                _log.error("on_status failed", error=failure, status=status.value)
