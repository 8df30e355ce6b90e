"""The records in memory: what the edge asks on every request and at every hello.

Loaded at start and told of every write by ``Store``. It never waits for the database, so a locked or lost one
does not touch traffic. It fits ``wellhead.edge.directory.Directory``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from wellhead.errors import SecretRejected, TunnelRemoved
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import ApiKey, TunnelId, TunnelStatus, TunnelView


@dataclass(frozen=True, slots=True)
class Presence:
    """When agents came and went."""

    connected: bool = False
    last_connected_at: datetime | None = None
    last_disconnected_at: datetime | None = None
    last_ip: str | None = None


@dataclass(slots=True)
class _Tunnel:
    view: TunnelView
    secret_digest: bytes = field(repr=False)
    presence: Presence = field(default_factory=Presence)
    sessions: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Key:
    record: ApiKey
    digest: bytes


def utc_now() -> datetime:
    return datetime.now(UTC)


class Snapshot:
    """``on_presence`` is told the id of a tunnel whose presence changed."""

    def __init__(
        self, on_presence: Callable[[TunnelId], None], clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._on_presence = on_presence
        self._clock = clock
        self._on_removed: list[Callable[[TunnelId], None]] = []
        self._routes: dict[str, TunnelView] = {}
        self._by_name: dict[str, _Tunnel] = {}
        self._by_id: dict[TunnelId, _Tunnel] = {}
        self._keys: dict[str, _Key] = {}  # by handle

    # What the edge asks.

    def tunnel(self, name: str) -> TunnelView | None:
        return self._routes.get(name)

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        self._on_removed.append(call)

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> TunnelView:
        entry = self._by_name.get(tunnel) or self._by_id.get(TunnelId(tunnel))
        # Both comparisons are made whatever is found, so that every refusal takes the same time.
        by_secret = access.matches(secret, entry.secret_digest if entry is not None else None)
        key = self.key(secret)
        by_key = (
            entry is not None
            and key is not None
            and key.organization_id == entry.view.organization_id
            and access.may_use_tunnel(key.scopes, entry.view.id)
        )
        if entry is None or not (by_secret or by_key):
            raise SecretRejected("no such tunnel, or the secret is not good for it")
        if entry.view.status in (TunnelStatus.PENDING_REMOVAL, TunnelStatus.DELETED):
            raise TunnelRemoved(f"tunnel {entry.view.name} is {entry.view.status.value}")
        return entry.view

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        if (entry := self._by_id.get(tunnel_id)) is None:
            return
        entry.sessions.add(session_id)
        entry.presence = replace(
            entry.presence, connected=True, last_connected_at=self._clock(), last_ip=peer
        )
        self._on_presence(tunnel_id)

    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None:
        entry = self._by_id.get(tunnel_id)
        if entry is None or session_id not in entry.sessions:
            return
        entry.sessions.remove(session_id)
        if not entry.sessions:
            entry.presence = replace(entry.presence, connected=False, last_disconnected_at=self._clock())
            self._on_presence(tunnel_id)

    async def is_admin(self, key: Secret) -> bool:
        record = self.key(key)
        return record is not None and access.is_admin(record.scopes)

    # What the control plane asks and tells.

    def key(self, secret: Secret) -> ApiKey | None:
        """The live API key that this secret is, or None; in the same time whether it exists or not."""
        found = self._keys.get(access.handle_of(secret))
        same = access.matches(secret, found.digest if found is not None else None)
        return found.record if found is not None and same and found.record.live(self._clock()) else None

    def presence(self, tunnel_id: TunnelId) -> Presence:
        entry = self._by_id.get(tunnel_id)
        return entry.presence if entry is not None else Presence()

    def put_key(self, record: ApiKey, handle: str, digest: bytes) -> None:
        self._keys[handle] = _Key(record, digest)

    def put_tunnel(self, view: TunnelView, secret_digest: bytes, presence: Presence | None = None) -> None:
        """Take a tunnel's record as it now is; ``presence`` only where none is known yet."""
        entry = self._by_id.get(view.id)
        if entry is None:
            entry = self._by_id[view.id] = _Tunnel(view, secret_digest, presence or Presence())
        entry.view, entry.secret_digest = view, secret_digest
        self._by_name[view.name] = entry
        if view.status is TunnelStatus.ACTIVE:
            self._routes[view.name] = view
        elif self._routes.pop(view.name, None) is not None:
            for call in self._on_removed:
                call(view.id)
