"""The edge's live sessions, by tunnel. No cache stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

from wellhead.model.records import TunnelId
from wellhead.net.session import Session
from wellhead.wire.headers import ReplyFacts

MEMO_MAX = 4 * 1024  # longest reply head that is remembered, bytes
_NO_REPLY = ReplyFacts(0, None, True, False, b"", b"")


class Line:
    """The sessions of one tunnel, and how many visitors' exchanges they carry."""

    __slots__ = ("exchanges", "reply_facts", "reply_head", "reply_method", "sessions")

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.exchanges = 0
        # The last reply head of the tunnel and what it was found to say: reading one is a pure function.
        self.reply_head = b""
        self.reply_method = b""
        self.reply_facts = _NO_REPLY

    def remember(self, head: bytes, method: bytes, facts: ReplyFacts) -> None:
        """Keep what a reply head says, for the next reply that repeats it byte for byte."""
        if len(head) <= MEMO_MAX:
            self.reply_head, self.reply_method, self.reply_facts = head, method, facts

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
