"""An agent's way to its edge: dial, hello, and again for as long as it makes sense.

::

    dial -> TLS verified -> hello -> welcomed -> streams ... lost ------> pause, dial again
                                  -> refused (says itself whether it is final)
                                             ... asked to drain -> dial a new one, then the old one ends
                                             ... superseded -> over

Whether to try again is ``error.retry`` and nothing else. One coroutine, ``run``, owns it all. How hello and
streams look on the wire is a carrier's affair: the edge chooses among those that are offered to it.

Source: docs/reference/wire.md, "Hello" and "Drain".
"""

from __future__ import annotations

import asyncio
import enum
import functools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wellhead.errors import (
    DialError,
    HelloError,
    ProtocolNotOffered,
    RefusedError,
    Retry,
    SessionLost,
    Superseded,
    TrustError,
    WellheadError,
)
from wellhead.logs import Log
from wellhead.net import dialling
from wellhead.net.backoff import Backoff
from wellhead.net.carrier import Carried, Carrier, Opening
from wellhead.net.changes import NetworkChanges, is_ours
from wellhead.net.session import boot_time
from wellhead.wire.messages import Welcome
from wellhead.wire.streams import Reason

_log = Log("wellhead.agent")
_DRAIN_POLL_SECONDS = 0.05
LAST_WORDS_SECONDS = 1.0  # for what was said last to get to the visitors
_OVERDUE_SECONDS = 5.0  # how much longer than it said a draining edge may take
SOON_SECONDS = 0.25  # a drained session is replaced within it, or within what the edge said
NEW_SECONDS = 2.0  # a session asked to drain within it is replaced with the pauses of a failure
CHANGED_SECONDS = 1.0  # after a change of this machine's network the next dial comes within it
_GLANCE_SECONDS = 1.0  # how often a pause looks whether the machine slept


class Status(enum.Enum):
    """How an uplink, and the listener on it, is doing."""

    CONNECTING = "connecting"  # for the first time
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"  # no session: visitors get 503
    DRAINING = "draining"  # the edge is leaving: its session finishes, a new one is being dialled
    SUPERSEDED = "superseded"  # another agent has taken the tunnel: over
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    """Where to dial. ``context`` verifies the edge's certificate for ``host`` and offers the carriers."""

    host: str
    port: int
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class UplinkTimes:
    dial_seconds: float = 10.0  # connection and TLS handshake
    hello_seconds: float = 10.0  # until WELCOME or REFUSED
    settled_seconds: float = 10.0  # a session that lived so long makes the next pause short again
    close_seconds: float = 2.0  # for the peer to answer our close


OnWelcome = Callable[[Welcome], None]
OnStatus = Callable[[Status, WellheadError | None], None]


class Uplink:
    """Keeps one session with the edge alive, on whichever of ``carriers`` the edge chooses.

    ``on_status`` is told of each change, with the error that caused it, and ``on_welcome`` what the edge
    said; both inside the loop: they must not block.
    """

    def __init__(
        self,
        edge: EdgeAddress,
        carriers: Sequence[Carrier],
        *,
        on_status: OnStatus,
        on_welcome: OnWelcome,
        times: UplinkTimes | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = boot_time,
        network_changes: Callable[[Callable[[], None]], NetworkChanges] = NetworkChanges,
    ) -> None:
        self.status = Status.CONNECTING
        self._edge = edge
        self._carriers = carriers
        self._on_status = on_status
        self._on_welcome = on_welcome
        self._times = times or UplinkTimes()
        self._backoff = backoff or Backoff()
        self._clock = clock  # seconds that go on while the machine sleeps
        self._loop = asyncio.get_running_loop()
        self._live: set[Carried] = set()  # welcomed and not lost
        self._current: Carried | None = None  # the youngest of them
        self._answers: dict[Carried, asyncio.Future[Welcome]] = {}
        self._stirred = asyncio.Event()  # the current session needs a successor, or we are closing
        self._lost: WellheadError | None = None
        self._ask_again_after = 0.0  # seconds, as the draining edge said
        self._drain_seconds = 0.0  # how long the edge lets streams finish
        self._closing = False
        self._welcomed = False  # ever
        self._network_changes = network_changes
        self._rest_until = 0.0  # loop time; 0: no pause

    async def run(self) -> None:
        """Until ``aclose``, or until an error that trying again does not mend.

        Raises:
            WellheadError: one whose ``retry`` is NEVER; TrustError and ProtocolNotOffered only where the edge
                never welcomed us yet.
        """
        error: WellheadError | None = None
        changes = self._network_changes(self._network_changed)
        try:
            while not self._closing:
                try:
                    session = await self._establish()
                except WellheadError as failure:
                    if isinstance(failure, TrustError | ProtocolNotOffered) and self._welcomed:
                        # Its certificate ran out, say: the edge that was ours is to be found again when it
                        # has a new one. Until then nothing is said to whoever is there.
                        failure.retry = Retry.LATER
                    if failure.retry is Retry.NEVER or self._closing:
                        raise
                    await self._rest(self._backoff.pause(failure), failure)
                    continue
                await self._keep(session)
        except WellheadError as failure:
            if not self._closing:
                error = failure
                raise
        finally:
            changes.close()
            for session in list(self._live):
                session.abort()
            taken = isinstance(error, Superseded)
            self._change(Status.SUPERSEDED if taken else Status.CLOSED, error)

    async def aclose(self, drain_seconds: float = 0.0, said_all: Callable[[], bool] = lambda: False) -> None:
        """Ask the edge for no new streams, let the open ones finish, and hang up; then ``run`` returns.

        ``said_all``: nothing is left to be said on any stream, whoever still holds its own half open.
        """
        self._closing = True
        for session in self._live:
            session.drain(Reason.CANCELLED, 0, "the agent is leaving")
        until = self._loop.time() + drain_seconds
        # Nobody is told when a stream ends: that would cost every request, for the sake of the last.
        while any(s.load for s in self._live) and self._loop.time() < until:
            if said_all():
                until = min(until, self._loop.time() + LAST_WORDS_SECONDS)  # the first time counts
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        closed = [session.closed for session in self._live]
        for session in list(self._live):
            session.close()
        if closed:
            await asyncio.wait(closed, timeout=self._times.close_seconds)
        for session in list(self._live):
            session.abort()
        self._stirred.set()

    # One session

    async def _establish(self) -> Carried:
        """A welcomed session.

        Raises:
            DialError, TrustError: see ``dialling.dial_tls``.
            RefusedError: the edge said no.
            HelloError: it said something else, or nothing.
        """
        edge, times = self._edge, self._times
        openings: list[Opening] = []

        def begin(carrier: Carrier) -> asyncio.Protocol:
            opening = carrier.begin(self)
            openings.append(opening)
            self._answers[opening.session] = self._loop.create_future()
            return opening.protocol

        try:
            await dialling.dial_agreed(
                edge.host,
                edge.port,
                context=edge.context,
                factories={carrier.alpn: functools.partial(begin, carrier) for carrier in self._carriers},
                timeout_seconds=times.dial_seconds,
            )
            session = openings[0].session
            # The secret travels only here, behind a verified handshake.
            openings[0].greet()
            async with asyncio.timeout(times.hello_seconds):
                welcome = await self._answers[session]
        except TimeoutError as error:
            raise HelloError(f"the edge did not answer the hello within {times.hello_seconds:g} s") from error
        finally:
            for opening in openings:
                answer = self._answers.pop(opening.session)
                if answer.done() and not answer.cancelled():
                    answer.exception()  # lost while it was made: the dial's own error tells more
                if opening.session not in self._live:
                    opening.session.abort()
        self._drain_seconds = welcome.drain_seconds
        self._welcomed = True
        self._lost = None
        self._on_welcome(welcome)
        return session

    async def _keep(self, session: Carried) -> None:
        """Watch a session until it needs a successor, and wait as long as that one should."""
        began = self._loop.time()
        self._current = session
        self._stirred.clear()
        if session not in self._live or session.peer_draining or self._closing:
            self._stirred.set()
        else:
            self._change(Status.CONNECTED, None)
        await self._stirred.wait()
        if self._closing:
            return
        lived = self._loop.time() - began
        if lived >= self._times.settled_seconds:
            self._backoff.reset()
        if session in self._live:
            # Make before break: the old session goes on with its streams until the edge closes it.
            self._current = None
            self._loop.call_later(self._drain_seconds + _OVERDUE_SECONDS, session.abort)
            pause = self._backoff.spread(max(self._ask_again_after, SOON_SECONDS))
            if lived < NEW_SECONDS:  # an edge that sends away whoever comes is not asked all the time
                pause = max(pause, self._backoff.pause())
            await self._rest(pause, None)
            return
        if isinstance(self._lost, RefusedError) and self._lost.retry is Retry.NEVER:
            raise self._lost
        await self._rest(self._backoff.pause(self._lost), self._lost)

    async def _rest(self, seconds: float, error: WellheadError | None) -> None:
        """Wait before the next dial, but not longer than it takes to notice that the machine slept."""
        self._change(Status.DRAINING if self._live else Status.RECONNECTING, error)
        _log.info("dialling again", edge=self._edge.host, seconds=round(seconds, 3), error=error or "-")
        self._stirred.clear()
        self._rest_until = self._loop.time() + seconds
        try:
            await self._pause()
        finally:
            self._rest_until = 0.0

    async def _pause(self) -> None:
        while (left := self._rest_until - self._loop.time()) > 0 and not self._closing:
            looked = self._clock()
            glance = min(left, _GLANCE_SECONDS)
            try:
                async with asyncio.timeout(glance):
                    await self._stirred.wait()
                self._stirred.clear()
            except TimeoutError:
                pass
            if self._clock() - looked > glance + 2 * _GLANCE_SECONDS:
                return

    def _change(self, status: Status, error: WellheadError | None) -> None:
        if self.status is status and error is None:
            return
        self.status = status
        self._on_status(status, error)

    def _network_changed(self) -> None:
        """An address or a route came or went: what is connected may be cut off, what was not may be now."""
        for session in list(self._live):
            if session.local and not is_ours(session.local):
                session.abort(SessionLost(f"this machine's address {session.local[0]} is gone"))
            else:
                session.probe()
        if self._rest_until:
            soon = self._loop.time() + self._backoff.spread(CHANGED_SECONDS)
            self._rest_until = min(self._rest_until, soon)
            self._stirred.set()

    # From the sessions

    def welcomed(self, session: Carried, welcome: Welcome) -> None:
        self._live.add(session)
        self._answers[session].set_result(welcome)

    def refused(self, session: Carried, error: WellheadError) -> None:
        answer = self._answers.get(session)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def lost(self, session: Carried, error: WellheadError | None) -> None:
        self._live.discard(session)
        self.refused(session, error or DialError("the edge hung up before it answered the hello"))
        if self.status is Status.DRAINING and not self._live and not self._closing:
            self._change(Status.RECONNECTING, error)
        if session is self._current:
            self._current = None
            self._lost = error or SessionLost("the edge closed the session")
            self._stirred.set()

    def drained(self, session: Carried, retry_after_ms: int) -> None:
        if session is self._current:
            self._ask_again_after = retry_after_ms / 1000
            self._stirred.set()
