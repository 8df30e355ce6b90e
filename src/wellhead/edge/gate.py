"""The agents' door: hello in, welcome or refusal out.

Until its hello is accepted a connection may say one thing only, within ``hello_seconds``; after that
its session is in the registry until the connection ends. A refusal says itself whether it is final.

Source: docs/reference/wire.md, "Hello".
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from wellhead.edge.credentials import Credentials
from wellhead.edge.directory import Admission, Directory
from wellhead.edge.host_gate import PREFIX, HostAdmission, HostGate
from wellhead.edge.metrics import Metrics
from wellhead.edge.registry import Live, Registry
from wellhead.errors import (
    HelloError,
    ProtocolError,
    QuotaExceeded,
    RefusedError,
    Retry,
    VersionRefused,
    WellheadError,
)
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.model.records import KeyId, TunnelId, TunnelView
from wellhead.net.session import Liveness, Session
from wellhead.wire.frames import Kind
from wellhead.wire.messages import OWN_CERTIFICATE, PROTOCOL, Hello, Refused, Welcome
from wellhead.wire.mux import HELD_MAX, MuxStream, Role
from wellhead.wire.streams import Buffer, Reason, StreamKind
from wellhead.wire.window import INITIAL_WINDOW

_log = Log("wellhead.edge")


@dataclass(frozen=True, slots=True)
class GateTerms:
    """What the gate demands and announces."""

    hello_seconds: float
    drain_seconds: float
    liveness: Liveness
    loopback_exempt: bool
    public_urls: Callable[[TunnelView], list[str]]
    stream_window_bytes: int = INITIAL_WINDOW
    session_held_bytes: int = HELD_MAX
    rejections_per_minute: int = 10  # of credentials from one address, before its hellos are put off


class Gate:
    """Makes a session of each agent's connection, and lets it in. ``welcomed`` is told of each tunnel.

    ``hosts`` is asked about those that are no agents but hosts.
    """

    def __init__(
        self,
        directory: Directory,
        credentials: Credentials,
        registry: Registry,
        metrics: Metrics,
        terms: GateTerms,
        hosts: HostGate,
        welcomed: Callable[[TunnelView], None] = lambda view: None,
    ) -> None:
        self._welcomed = welcomed
        self._hosts = hosts
        self._directory = directory
        self._credentials = credentials
        self._registry = registry
        self._metrics = metrics
        self._terms = terms
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Session, asyncio.TimerHandle] = {}  # no hello yet
        self._admissions: dict[Session, asyncio.Task[None]] = {}  # hello being checked
        self._admitted: dict[Session, Admission] = {}
        self._hints: dict[Live, str] = {}  # of those admitted: which agent process each is of
        directory.on_removed(self.end_tunnel)
        directory.on_revoked(self.end_key)

    def session(self) -> Session:
        """A protocol for a connection whose ALPN was the native carrier's."""
        session = Session(
            Role.ACCEPTOR,
            on_open=_refuse_stream,
            on_control=self._control,
            on_lost=self._lost,
            liveness=self._terms.liveness,
            window=self._terms.stream_window_bytes,
            held_max=self._terms.session_held_bytes,
        )
        late = self._loop.call_later(self._terms.hello_seconds, self._too_late, session)
        self._waiting[session] = late
        return session

    def drain(self) -> None:
        """Tell every agent to look for another edge; new hellos are put off."""
        self._credentials.draining = True
        for session in [*self._admitted, *self._hosts.sessions]:
            session.drain(Reason.CANCELLED, 500, "the edge is draining")

    async def close(self) -> None:
        """End every connection, let in or not."""
        sessions = [*self._waiting, *self._admissions, *self._admitted, *self._hosts.sessions]
        tasks = list(self._admissions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            session.close()

    def end_tunnel(self, tunnel: TunnelId) -> None:
        """End the live sessions of a tunnel: it was removed, or its secret changed in a hurry."""
        for session, admission in list(self._admitted.items()):
            if admission.tunnel.id == tunnel:
                self._end(session, admission.tunnel)

    def end_key(self, key: KeyId) -> None:
        """End the live sessions that an API key let in: it was revoked, or its time is over."""
        for session, admission in list(self._admitted.items()):
            if admission.key_id == key:
                self._end(session, admission.tunnel)

    def _end(self, session: Session, tunnel: TunnelView) -> None:
        self._registry.remove(tunnel.id, session)  # at once no visitor is led to it
        removed = self._directory.tunnel(tunnel.name) is None
        session.dismiss(Reason.REMOVED if removed else Reason.SESSION_LOST)

    # From the session

    def _control(self, session: Session, kind: int, payload: bytes) -> None:
        late = self._waiting.pop(session, None)
        if late is None or kind != Kind.HELLO:
            raise HelloError(f"control frame of kind {kind} where a first hello was expected")
        late.cancel()
        hello = Hello.decode(payload)
        self._admissions[session] = self._loop.create_task(
            self._admit(session, hello), name=f"admit {session.peer}"
        )

    def _too_late(self, session: Session) -> None:
        self._waiting.pop(session, None)
        self._refused(session, "no-hello")
        session.abort()

    def _lost(self, session: Session, error: WellheadError | None) -> None:
        late = self._waiting.pop(session, None)
        if late is not None:
            late.cancel()
        task = self._admissions.pop(session, None)
        if task is not None:
            task.cancel()
        admission = self._admitted.pop(session, None)
        self._hints.pop(session, None)
        if admission is not None:
            view = admission.tunnel
            self._registry.remove(view.id, session)
            self._directory.session_closed(view.id, session.id)
            self._closed(session, view.name, error)
        elif (host := self._hosts.lost(session)) is not None:
            self._closed(session, host.host.id, error)
        elif isinstance(error, ProtocolError):
            self._refused(session, error.code, error)

    def _closed(self, session: Session, name: str, error: WellheadError | None) -> None:
        self._metrics.sessions_closed[error.code if error is not None else "closed"] += 1
        _log.info("session closed", session=session.id, tunnel=name, error=str(error or "-"))

    # The decision

    async def _admit(self, session: Session, hello: Hello) -> None:
        try:
            async with asyncio.timeout(self._terms.hello_seconds):
                enter = await self._check(session, hello)
        except RefusedError as error:
            self._refuse(session, error)
        except TimeoutError:
            self._refuse(session, QuotaExceeded("the directory is slow", retry_after_seconds=1.0))
        except Exception as error:  # whatever it is, the agent must not be left waiting
            _log.error("admission failed", peer=session.peer, error=error)
            self._refuse(session, QuotaExceeded("the directory failed", retry_after_seconds=5.0))
        else:
            if session.usable:  # else it broke the rules, or left, in the meantime
                enter()
        finally:
            self._admissions.pop(session, None)

    async def _check(self, session: Session, hello: Hello) -> Callable[[], None]:
        """What lets it in."""
        if hello.protocol != PROTOCOL and not self._credentials.draining:
            raise VersionRefused(f"protocol {hello.protocol} is not spoken here, only {PROTOCOL}")
        if hello.tunnel.startswith(PREFIX):
            host = await self._hosts.check(hello, session.peer)
            return lambda: self._welcome_host(session, hello, host)
        admission = await self._credentials.admit(
            hello.tunnel, Secret(hello.secret), session.peer, hello.agent
        )
        return lambda: self._welcome(session, hello, admission)

    def _welcome(self, session: Session, hello: Hello, admission: Admission) -> None:
        view = admission.tunnel
        session.own_certificate = OWN_CERTIFICATE in hello.features
        self._open(session, hello, str(view.id), view.name, self._terms.public_urls(view))
        self._admitted[session] = admission
        self._doubt(view, hello.session_hint)
        self._hints[session] = hello.session_hint
        self._registry.add(view.id, session)
        self._welcomed(view)
        self._directory.session_opened(view.id, session.id, session.peer, hello.agent)

    def _welcome_host(self, session: Session, hello: Hello, admission: HostAdmission) -> None:
        host = admission.host.id
        self._open(session, hello, host, host, [], lane=admission.lane.value)
        self._hosts.admit(session, hello, admission)

    def _open(
        self, session: Session, hello: Hello, owner: str, name: str, urls: list[str], **told: object
    ) -> None:
        """Say welcome: streams may be opened from here on. ``told`` is for the log."""
        terms = self._terms
        session.id = "s_" + secrets.token_hex(8)
        session.mux.start(hello.window)
        welcome = Welcome(
            session=session.id,
            tunnel_id=owner,
            name=name,
            public_urls=urls,
            window=session.mux.window,
            ping_seconds=terms.liveness.ping_seconds,
            drain_seconds=terms.drain_seconds,
            features=[OWN_CERTIFICATE] if session.own_certificate else [],
        )
        session.mux.control(Kind.WELCOME, welcome.encode())
        self._metrics.sessions_opened[session.carrier] += 1
        _log.info(
            "session opened", session=session.id, tunnel=name, carrier="mux", peer=session.peer,
            agent=hello.agent, **told,
        )  # fmt: skip

    def _doubt(self, view: TunnelView, hint: str) -> None:
        """An agent's process dials again when it has lost its session, whatever we still believe of that."""
        line = self._registry.lines.get(view.id)
        for session in list(line.sessions) if line is not None and hint else ():
            if self._hints.get(session) == hint and not session.draining:
                session.probe()

    def _refuse(self, session: Session, error: RefusedError) -> None:
        self._refused(session, error.code, error)
        refused = Refused(
            code=error.code,
            message=str(error),
            final=error.retry is Retry.NEVER,
            retry_after_ms=int((error.retry_after_seconds or 0) * 1000),
        )
        session.mux.control(Kind.REFUSED, refused.encode())
        session.close()

    def _refused(self, session: Session, code: str, error: WellheadError | None = None) -> None:
        self._metrics.hellos_refused[code] += 1
        _log.info("session refused", peer=session.peer, code=code, reason=str(error or "-"))


def _refuse_stream(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
    """The edge answers no streams of an agent: it only opens them."""
    stream.reset(Reason.REFUSED)
