"""The edge's live sessions, by tunnel. No cache stands beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from wellhead.errors import WellheadError
from wellhead.model.records import TunnelId
from wellhead.visitors.exchange import Door
from wellhead.visitors.memo import Memo
from wellhead.wire.streams import Reason


class Live(Door, Protocol):
    """An agent's session as the edge sees it, whatever its carrier."""

    id: str
    peer: str  # an IP address
    usable: bool  # new streams may be opened
    draining: bool  # the agent was asked to go elsewhere; what is open goes on
    own_certificate: bool  # TLS ends behind the agent, with a certificate of its own

    @property
    def load(self) -> int:
        """Open streams."""

    @property
    def held(self) -> int:
        """Bytes that came in and have not left, both ways."""

    def drain(self, reason: int = Reason.CANCELLED, retry_after_ms: int = 0, text: str = "") -> None:
        """Ask the agent to go elsewhere; what is open goes on. Idempotent."""

    def close(self, reason: int = Reason.SESSION_LOST) -> None:
        """Write what is queued and end the connection; ``reason`` is what its streams are told."""

    def abort(self, error: WellheadError | None = None) -> None:
        """End the connection at once."""

    def probe(self) -> None:
        """Ask the agent now whether it is there."""


class Line(Memo):
    """The sessions of one tunnel, and how many visitors' exchanges they carry."""

    __slots__ = ("sessions",)

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Live] = []

    @property
    def own_certificate(self) -> bool:
        """Whether TLS ends behind an agent that brings a certificate of its own."""
        return any(session.own_certificate for session in self.sessions)

    def pick(self) -> Live | None:
        """The usable session with the fewest open streams, or None."""
        sessions = self.sessions
        if len(sessions) == 1:  # fast path: one agent
            only = sessions[0]
            return only if only.usable else None
        best: Live | None = None
        for session in sessions:
            if session.usable and (best is None or session.load < best.load):
                best = session
        return best

    def pick_other(self, refused: object) -> Live | None:
        """As ``pick``, but not this one."""
        others = [session for session in self.sessions if session.usable and session is not refused]
        return min(others, key=_load, default=None)


def _load(session: Live) -> int:
    return session.load


class Registry:
    """``lines``: tunnel id -> line, of the tunnels that have a session."""

    def __init__(self) -> None:
        self.lines: dict[TunnelId, Line] = {}

    def __len__(self) -> int:
        return sum(len(line.sessions) for line in self.lines.values())

    def sessions(self) -> Iterator[Live]:
        """All of them, of every tunnel."""
        return (session for line in self.lines.values() for session in line.sessions)

    def add(self, tunnel: TunnelId, session: Live) -> None:
        """From now on new streams of the tunnel may go to this session."""
        self.lines.setdefault(tunnel, Line()).sessions.append(session)

    def remove(self, tunnel: TunnelId, session: Live) -> None:
        """The session is no longer chosen. Unknown ones are ignored: a session may end before its hello."""
        line = self.lines.get(tunnel)
        if line is not None and session in line.sessions:
            line.sessions.remove(session)
            if not line.sessions:
                del self.lines[tunnel]
