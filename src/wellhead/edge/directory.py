"""What the edge asks of the records: its read-only view, which ``model.snapshot`` is.

The edge never touches a database on a request's path: ``tunnel`` answers from memory. What may take
time (``admit``, ``is_admin``) is awaited, and happens once per session or per scrape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.model.access import Secret
from wellhead.model.records import Admission, KeyId, TunnelId, TunnelView

__all__ = ["Admission", "Directory", "TunnelView"]


class Directory(Protocol):
    def tunnel(self, name: str) -> TunnelView | None:
        """The tunnel of this name that may be routed to, or None. Lower case, a single label.

        One that awaits its certificate has agents, but no visitor can get through to them yet.
        """

    def named(self, name: str) -> TunnelView | None:
        """The tunnel whose name this is, whatever its status: it says where TLS for the name ends."""

    def is_current(self) -> bool:
        """Whether a tunnel that is not here does not exist; False while the control plane is away."""

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        """Have ``call`` told, at once, of each tunnel whose live sessions are to end.

        It may no longer be routed to, or its secret was changed in a hurry.
        """

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """Have ``call`` told, at once, of each API key that is good no more."""

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        """Check an agent's credential for a tunnel, given by name or id.

        ``secret`` is the tunnel's connect secret, or an API key with scope ``admin`` of its
        organization or ``tunnel:{id}``. An unknown tunnel and a wrong secret look and last alike.

        Raises:
            TunnelForbidden: no such tunnel, or none any more, or it is not this live key's; a kind of
            SecretRejected: the credential is nobody's, or is not this tunnel's secret.
            TunnelRemoved: the credential is good, but the tunnel is pending removal.
        """

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        """Note that a session is live; written to the records soon, not before this returns."""

    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None:
        """Note that a session ended."""

    async def is_admin(self, key: Secret) -> bool:
        """Whether this API key is live and has scope ``admin``."""
