"""The edge's live sessions, by tunnel. No cache stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

from wellhead.model.records import TunnelId
from wellhead.net.session import Session
from wellhead.visitors.memo import Memo


class Line(Memo):
    """The sessions of one tunnel, and how many visitors' exchanges they carry."""

    __slots__ = ("sessions",)

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Session] = []

    @property
    def own_certificate(self) -> bool:
        """Whether TLS ends behind an agent that brings a certificate of its own."""
        return any(session.own_certificate for session in self.sessions)

    def pick(self) -> Session | None:
        """The usable session with the fewest open streams, or None."""
        sessions = self.sessions
        if len(sessions) == 1:  # fast path: one agent
            only = sessions[0]
            return only if only.usable else None
        best: Session | None = None
        for session in sessions:
            if session.usable and (best is None or session.load < best.load):
                best = session
        return best

    def pick_other(self, refused: object) -> Session | None:
        """As ``pick``, but not this one."""
        others = [session for session in self.sessions if session.usable and session is not refused]
        return min(others, key=_load, default=None)


def _load(session: Session) -> int:
    return session.load


class Registry:
    """``lines``: tunnel id -> line, of the tunnels that have a session."""

    def __init__(self) -> None:
        self.lines: dict[TunnelId, Line] = {}

    def __len__(self) -> int:
        return sum(len(line.sessions) for line in self.lines.values())

    def sessions(self) -> Iterator[Session]:
        """All of them, of every tunnel."""
        return (session for line in self.lines.values() for session in line.sessions)

    def add(self, tunnel: TunnelId, session: Session) -> None:
        """From now on new streams of the tunnel may go to this session."""
        self.lines.setdefault(tunnel, Line()).sessions.append(session)

    def remove(self, tunnel: TunnelId, session: Session) -> None:
        """The session is no longer chosen. Unknown ones are ignored: a session may end before its hello."""
        line = self.lines.get(tunnel)
        if line is not None and session in line.sessions:
            line.sessions.remove(session)
            if not line.sessions:
                del self.lines[tunnel]
