"""What every directory of tests answers alike, and what it is told."""

from __future__ import annotations

from wellhead.model.access import Secret
from wellhead.model.records import TunnelId


class Notebook:
    """The part of a directory that writes down which sessions there were; nobody is an administrator."""

    def __init__(self) -> None:
        self.current = True
        self.error: Exception | None = None  # what the next admission fails with
        self.opened: list[str] = []
        self.closed: list[str] = []

    def is_current(self) -> bool:
        return self.current

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        self.opened.append(session_id)

    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None:
        self.closed.append(session_id)

    async def is_admin(self, key: Secret) -> bool:
        return False
