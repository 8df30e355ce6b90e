"""The HTTP/2 carrier's door: who says hello well has a session, and its tunnel's seat.

Every hello is answered, whatever becomes of the connection: some agents wait for ever for one that is not.
A credential is judged at hello and bound to the connection: a secret that is changed breaks no live one.

============================================  ========================================================
200, JSON                                     a session
401                                           the credential is nobody's
403                                           it is somebody's, but opens no such tunnel: none, none any
                                              more, or another's
409 ``hello-superseded``                      a later hello of the tunnel was let in meanwhile
429                                           too many bad credentials, connections or takeovers
503                                           not now: draining, overloaded, the records are away, or the
                                              tunnel is pending removal
============================================  ========================================================

Source: docs/reference/h2-carrier.md, "Hello".
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import NamedTuple

from wellhead.edge.credentials import Credentials
from wellhead.edge.directory import Admission, Directory
from wellhead.edge.intake import answers
from wellhead.edge.intake.connection import ZoneConnection
from wellhead.edge.intake.seat import Seat
from wellhead.edge.intake.session import IntakeSession
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.edge.metrics import Metrics
from wellhead.edge.registry import Registry
from wellhead.errors import (
    QuotaExceeded,
    RefusedError,
    SecretRejected,
    Superseded,
    TunnelForbidden,
)
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.model.records import AGENT_MAX, KeyId, TunnelId, TunnelView
from wellhead.visitors.house import House
from wellhead.visitors.pages import Page
from wellhead.wire.h2 import H2Stream
from wellhead.wire.hpack import Fields, list_size
from wellhead.wire.intake import API_KEY, HELLO_PATH, INTAKE_PATH, MAX_POOL, SECRET, Hello
from wellhead.wire.intake_hello import Ours
from wellhead.wire.streams import Reason

_log = Log("wellhead.edge")
MAX_HELLO = 4096 + 512  # bytes of a hello's header list, as HPACK counts them
OUR_AGENT = "wellhead-"  # how the user-agent of an agent of this house begins
LOOK_SECONDS = 0.25  # between two looks at the clocks of those that are busy
IDLE_LOOKS = 4  # one of so many is for the others too
STOOD_STILL_SECONDS = 1.0  # between two looks, and the loop was busy or the machine asleep
END_SECONDS = 0.5  # for an agent to read the last bytes of a session that is ended
_STATUSES = {SecretRejected: 401, TunnelForbidden: 403, Superseded: 409, QuotaExceeded: 429}


class _Asked(NamedTuple):
    """What a hello says."""

    tunnel: str
    secret: Secret
    by_secret: bool
    agent: str
    pool: int | None
    number: int  # of all hellos


class IntakeGate:
    """Makes the connections at the zone name, and sessions of those that say hello.

    ``public_urls`` and ``welcomed`` are told of each tunnel that has a session.
    """

    def __init__(
        self,
        directory: Directory,
        credentials: Credentials,
        registry: Registry,
        metrics: Metrics,
        terms: IntakeTerms,
        public_urls: Callable[[TunnelView], list[str]],
        welcomed: Callable[[TunnelView], None] = lambda view: None,
    ) -> None:
        self.terms = terms
        self._directory = directory
        self._credentials = credentials
        self._registry = registry
        self._metrics = metrics
        self._public_urls = public_urls
        self._welcomed = welcomed
        self._loop = asyncio.get_running_loop()
        self._hellos: dict[ZoneConnection, asyncio.Task[None]] = {}  # being judged
        self._sessions: dict[IntakeSession, Admission] = {}
        self._connections: dict[IntakeSession, ZoneConnection] = {}
        self._seats: dict[TunnelId, Seat] = {}
        self._numbers = itertools.count(1)
        self._looked = self._loop.time()
        self._looks = 0
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        directory.on_removed(self.end_tunnel)
        directory.on_revoked(self.end_key)

    def connection(self, house: House, *, local: bool, sni: str | None) -> ZoneConnection:
        """A protocol for an HTTP/2 connection at the zone name."""
        return ZoneConnection(house, self, local=local, sni=sni)

    def drain(self) -> None:
        """Tell every agent to look for another edge, each in its way; hellos are put off."""
        self._credentials.draining = True
        for session in list(self._sessions):
            session.drain()

    async def close(self) -> None:
        """End every session."""
        self._timer.cancel()
        tasks = list(self._hellos.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in list(self._sessions):
            session.close()

    def end_tunnel(self, tunnel: TunnelId) -> None:
        """End the live sessions of a tunnel: it was removed, or its secret changed in a hurry."""
        for session, admission in list(self._sessions.items()):
            if admission.tunnel.id == tunnel:
                self._end(session)

    def end_key(self, key: KeyId) -> None:
        """End the live sessions that an API key let in: it was revoked, or its time is over."""
        for session, admission in list(self._sessions.items()):
            if admission.key_id == key:
                self._end(session)

    def _end(self, session: IntakeSession) -> None:
        self._registry.remove(session.view.id, session)
        removed = self._directory.tunnel(session.view.name) is None
        session.end(Reason.REMOVED if removed else Reason.SESSION_LOST)
        self._loop.call_later(END_SECONDS, session.abort)

    def counts(self) -> dict[str, int]:
        """What there is now, for the metrics."""
        sessions = list(self._sessions)
        return {
            "sessions": len(sessions),
            "slots": sum(len(session.pool.slots) for session in sessions),
            "waiting": sum(len(session.pool.waiting) for session in sessions),
            "pending": sum(len(seat.pending) for seat in self._seats.values()),
            "bridges": sum(session.bridges for session in sessions),
            "streams": sum(connection.streams for connection in self._connections.values()),
        }

    # From connections

    def asked(
        self, connection: ZoneConnection, stream: H2Stream, fields: Fields, path: bytes, end: bool
    ) -> None:
        """See ``connection.Gate``."""
        if path == HELLO_PATH:
            self._hello(connection, stream, fields, end)
        elif path == INTAKE_PATH:
            answers.end(stream, answers.NO_SESSION)
        else:
            answers.refuse(stream, 404, "there is nothing here", whole=end)

    def lost(self, connection: ZoneConnection) -> None:
        """See ``connection.Gate``."""
        task = self._hellos.pop(connection, None)
        if task is not None:
            task.cancel()
        session = connection.session
        if session is None or self._sessions.pop(session, None) is None:
            return
        view = session.view
        self._connections.pop(session, None)
        self._registry.remove(view.id, session)
        session.lost()
        self._let_go(view.id, session.seat)
        self._directory.session_closed(view.id, session.id)
        self._metrics.sessions_closed[session.end_word] += 1
        _log.info(
            "session closed", session=session.id, tunnel=view.name, carrier="h2", reason=session.end_word
        )

    def _let_go(self, tunnel: TunnelId, seat: Seat) -> None:
        seat.sessions -= 1
        if seat.is_empty and self._seats.get(tunnel) is seat and not seat.has_memory(self._loop.time()):
            del self._seats[tunnel]

    # Hello

    def _hello(self, connection: ZoneConnection, stream: H2Stream, fields: Fields, end: bool) -> None:
        refusal = connection.refusal
        if refusal is not None:
            self._refuse_full(connection, stream, refusal, end)
            return
        told = dict(fields)
        secret = told.get(API_KEY) or told.get(SECRET) or b""
        size = list_size(fields)
        pool = told.get(b"x-pool-size", b"")
        if told.get(b":method") != b"POST" or not end:
            self._say(connection, stream, 400, "request", "hello is a POST without a body", whole=end)
        elif size > MAX_HELLO:
            self._say(connection, stream, 431, "hello-size", f"hello of {size} bytes, at most {MAX_HELLO}")
        elif pool and not (pool.isdigit() and len(pool) < 10):
            self._say(connection, stream, 400, "pool-size", "x-pool-size is no number")
        elif connection.session is not None or connection in self._hellos:
            self._say(connection, stream, 409, "second-hello", "this connection has said hello")
        else:
            asked = _Asked(
                _text(told.get(b"x-tunnel-id", b"")), Secret(_text(secret)), API_KEY not in told,
                _text(told.get(b"user-agent", b""))[:AGENT_MAX], int(pool) if pool else None,
                next(self._numbers),
            )  # fmt: skip
            stream.sink = answers.Deaf(stream)
            self._hellos[connection] = self._loop.create_task(
                self._judge(connection, stream, asked), name=f"admit {connection.peer}"
            )

    def _refuse_full(self, connection: ZoneConnection, stream: H2Stream, page: Page, end: bool) -> None:
        """The edge is full, or the agent's network has too many connections."""
        self._say(
            connection, stream, page.status, page.reason, page.text, whole=end, retry_after=page.retry_seconds
        )
        connection.leave()

    async def _judge(self, connection: ZoneConnection, stream: H2Stream, asked: _Asked) -> None:
        try:
            async with asyncio.timeout(self.terms.hello_seconds):
                admission = await self._credentials.admit(
                    asked.tunnel, asked.secret, connection.peer, asked.agent
                )
            seat = self._seat(admission.tunnel.id)
            self._check_takeover(seat, admission.tunnel, asked)
        except RefusedError as error:
            status = _STATUSES.get(type(error), 503)
            self._say(
                connection, stream, status, error.code, str(error),
                retry_after=error.retry_after_seconds or (1.0 if status == 503 else 0.0),
            )  # fmt: skip
        except TimeoutError:
            self._say(connection, stream, 503, "directory", "the directory is slow", retry_after=1.0)
        except Exception as error:  # whatever it is, the agent must not be left waiting
            _log.error("admission failed", peer=connection.peer, error=error)
            self._say(connection, stream, 503, "directory", "the directory failed", retry_after=5.0)
        else:
            if not (stream.over or connection.is_over):
                self._welcome(connection, stream, asked, admission, seat)
        finally:
            self._hellos.pop(connection, None)
            if self._credentials.draining:
                connection.leave()

    def _seat(self, tunnel: TunnelId) -> Seat:
        seat = self._seats.get(tunnel)
        if seat is None:
            seat = self._seats[tunnel] = Seat()
        return seat

    def _displaced(self, view: TunnelView) -> list[IntakeSession]:
        return [
            session
            for session, admission in self._sessions.items()
            if admission.tunnel.id == view.id and not (session.draining or session.superseded)
        ]

    def _check_takeover(self, seat: Seat, view: TunnelView, asked: _Asked) -> None:
        """Agents that know of no takeover come back at once, and two of them would go on for ever."""
        if asked.number < seat.welcomed:
            raise Superseded("a later hello of this tunnel was let in")
        now, most = self._loop.time(), self.terms.takeovers_per_minute
        if not seat.may_take_over(now, most) and any(not each.ours for each in self._displaced(view)):
            raise QuotaExceeded(
                f"the tunnel changed hands {most} times within a minute", retry_after_seconds=10.0
            )

    def _welcome(
        self,
        connection: ZoneConnection,
        stream: H2Stream,
        asked: _Asked,
        admission: Admission,
        seat: Seat,
    ) -> None:
        terms, view = self.terms, admission.tunnel
        token = secrets.token_urlsafe(24)
        session = connection.promote(
            lambda h2: IntakeSession(
                connection, h2, seat, view, terms, self._loop.time, self._loop.call_soon,
                session_id="s_" + secrets.token_hex(8), peer=connection.peer, token=token.encode(),
                by_secret=asked.by_secret, ours=asked.agent.startswith(OUR_AGENT),
            )
        )  # fmt: skip
        displaced = self._displaced(view)
        seat.welcomed = asked.number
        seat.sessions += 1
        self._sessions[session] = admission
        self._connections[session] = connection
        self._registry.add(view.id, session)
        hello = Hello(
            owner_token=token,
            pool=min(max(terms.pool if asked.pool is None else asked.pool, 1), MAX_POOL),
            idle_seconds=terms.idle_seconds,
            deadline_seconds=terms.deadline_seconds,
            ours=Ours(session.id, str(view.id), view.name, self._public_urls(view)) if session.ours else None,
        )
        stream.headers([(b":status", b"200"), (b"content-type", b"application/json")])
        stream.data(hello.encode(), True)
        connection.flush()
        for other in displaced:
            self._registry.remove(view.id, other)
            other.supersede()
            if not other.ours:
                seat.took_over(self._loop.time())
        self._metrics.sessions_opened[session.carrier] += 1
        self._welcomed(view)
        self._directory.session_opened(view.id, session.id, session.peer, asked.agent)
        _log.info(
            "session opened", session=session.id, tunnel=view.name, carrier="h2", peer=session.peer,
            agent=asked.agent or "-",
        )  # fmt: skip

    def _say(
        self, connection: ZoneConnection, stream: H2Stream, status: int, code: str, text: str, *,
        whole: bool = True, retry_after: float = 0.0,
    ) -> None:  # fmt: skip
        self._metrics.hellos_refused[code] += 1
        _log.info("session refused", peer=connection.peer, code=code, reason=text, carrier="h2")
        reason = "hello-superseded" if code == Superseded.code else ""
        answers.refuse(stream, status, text, whole=whole, retry_after=retry_after, reason=reason)
        connection.flush()

    # Clocks

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._loop.time()
        stood_still, self._looked = now - self._looked > STOOD_STILL_SECONDS, now
        self._looks += 1
        for at, (session, connection) in enumerate(list(self._connections.items()), self._looks):
            if stood_still:
                session.pulse.excuse(now)
            if at % IDLE_LOOKS and session.is_idle:
                continue
            try:
                connection.tick(now)
            except Exception as error:  # the clocks of all others go on
                _log.error("agent's connection failed", error=error)
                session.abort()
        for tunnel, seat in list(self._seats.items()):
            seat.expire(now)
            if seat.is_empty and not seat.has_memory(now):
                del self._seats[tunnel]


def _text(value: bytes) -> str:
    return value.decode("latin-1")
