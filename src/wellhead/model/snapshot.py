"""The records in memory: what is asked on every request and at every hello.

The control plane has the first one, told of every write once it is durable; the edge has a copy, told of
every change of the first. Neither waits for a database, so a locked or lost one does not touch traffic. It
fits ``wellhead.edge.directory.Directory``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import assert_never

from wellhead.errors import SecretRejected, TunnelForbidden, TunnelRemoved
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.changes import (
    Change,
    HostDropped,
    HostPut,
    KeyDropped,
    KeyPut,
    SandboxDropped,
    SandboxPut,
    SessionsEnded,
    TunnelDropped,
    TunnelPut,
)
from wellhead.model.records import (
    AGENT_MAX,
    Admission,
    ApiKey,
    KeyId,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.model.sandboxes import HostId, HostView, SandboxId, SandboxView
from wellhead.model.text import escape


@dataclass(frozen=True, slots=True)
class Presence:
    """When agents came and went."""

    connected: bool = False
    last_connected_at: datetime | None = None
    last_disconnected_at: datetime | None = None
    last_ip: str | None = None
    agent: str | None = None


@dataclass(slots=True)
class _Tunnel:
    view: TunnelView
    secret_digest: bytes = field(repr=False)
    presence: Presence = field(default_factory=Presence)
    sessions: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Told:
    """Which records there are: tunnels, the handles of keys, hosts, sandboxes."""

    tunnels: set[TunnelId] = field(default_factory=set)
    handles: set[str] = field(default_factory=set)
    hosts: set[HostId] = field(default_factory=set)
    sandboxes: set[SandboxId] = field(default_factory=set)

    def note(self, change: Change) -> None:
        """Of what is put, that it is there."""
        match change:
            case TunnelPut():
                self.tunnels.add(change.view.id)
            case KeyPut():
                self.handles.add(change.handle)
            case HostPut():
                self.hosts.add(change.view.id)
            case SandboxPut():
                self.sandboxes.add(change.view.id)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Snapshot:
    """``on_presence`` is told the id of a tunnel whose presence changed."""

    def __init__(
        self, on_presence: Callable[[TunnelId], None], clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.current = True  # False while whoever tells of changes cannot be heard
        self._on_presence = on_presence
        self._clock = clock
        self._on_change: list[Callable[[Change], None]] = []
        self._on_removed: list[Callable[[TunnelId], None]] = []
        self._on_revoked: list[Callable[[KeyId], None]] = []
        self._on_trespass: list[Callable[[ApiKey, TunnelView, str], None]] = []
        self._on_used: list[Callable[[KeyId], None]] = []
        self._routes: dict[str, TunnelView] = {}
        self._by_name: dict[str, _Tunnel] = {}
        self._by_id: dict[TunnelId, _Tunnel] = {}
        self._keys: dict[str, KeyPut] = {}  # by handle
        self._expiring: dict[KeyId, datetime] = {}  # keys that will end by themselves
        self._hosts: dict[HostId, HostView] = {}
        self._sandboxes: dict[SandboxId, SandboxView] = {}
        self._on_host_removed: list[Callable[[HostId], None]] = []
        self._on_sandbox: list[Callable[[SandboxId], None]] = []

    def __len__(self) -> int:
        """How many tunnels there are."""
        return len(self._by_id)

    # What the edge asks.

    def tunnel(self, name: str) -> TunnelView | None:
        return self._routes.get(name)

    def named(self, name: str) -> TunnelView | None:
        entry = self._by_name.get(name)
        return entry.view if entry is not None else None

    def is_current(self) -> bool:
        return self.current

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        self._on_removed.append(call)

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        self._on_revoked.append(call)

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        # The id first: a tunnel may have been named like the id of another.
        entry = self._by_id.get(TunnelId(tunnel)) or self._by_name.get(tunnel)
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
            if entry is not None and key is not None:
                self.trespassed(key, entry.view, peer)
            # Of a tunnel that is gone nobody can say any more whether a connect secret was its own.
            perhaps = access.well_formed(secret, access.CONNECT_SECRET) and entry is None
            refusal = TunnelForbidden if key is not None or perhaps else SecretRejected
            raise refusal("no such tunnel, or the secret is not good for it")
        if entry.view.status in (TunnelStatus.PENDING_REMOVAL, TunnelStatus.DELETED):
            raise TunnelRemoved(f"tunnel {entry.view.name} is {entry.view.status.value}")
        if not by_key or key is None:
            return Admission(entry.view, None)
        self.used(key.id)
        return Admission(entry.view, key.id)

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        if (entry := self._by_id.get(tunnel_id)) is None:
            return
        entry.sessions.add(session_id)
        entry.presence = replace(
            entry.presence,
            connected=True,
            last_connected_at=self._clock(),
            last_ip=peer,
            agent=escape(agent[:AGENT_MAX])[:AGENT_MAX] or None,  # a stranger's text, shown to people
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

    def host(self, host_id: HostId) -> HostView | None:
        return self._hosts.get(host_id)

    def hosts(self) -> list[HostView]:
        """Every host that has come."""
        return list(self._hosts.values())

    def sandbox(self, sandbox_id: SandboxId) -> SandboxView | None:
        return self._sandboxes.get(sandbox_id)

    def on_sandbox(self, call: Callable[[SandboxId], None]) -> None:
        self._on_sandbox.append(call)

    def on_host_removed(self, call: Callable[[HostId], None]) -> None:
        self._on_host_removed.append(call)

    async def admit_host(self, host: str, secret: Secret) -> tuple[HostView, KeyId]:
        view, key = self._hosts.get(HostId(host)), self.key(secret)
        if view is None or key is None or not access.may_use_host(key.scopes, view.id):
            raise SecretRejected("no such host, or the key is not good for it")
        if key.organization_id != view.organization_id:
            raise SecretRejected("no such host, or the key is not good for it")
        self.used(key.id)
        return view, key.id

    async def is_admin(self, key: Secret) -> bool:
        record = self.key(key)
        return record is not None and access.is_admin(record.scopes)

    # What the control plane asks.

    def key(self, secret: Secret) -> ApiKey | None:
        """The live API key that this secret is, or None; in the same time whether it exists or not."""
        found = self._keys.get(access.handle_of(secret))
        same = access.matches(secret, found.digest if found is not None else None)
        return found.key if found is not None and same and found.key.live(self._clock()) else None

    def key_of_id(self, key_id: KeyId) -> ApiKey | None:
        """A key by its id, live or expired. Slow where there are many: for what is rare."""
        return next((put.key for put in self._keys.values() if put.key.id == key_id), None)

    def tunnel_of_id(self, tunnel_id: TunnelId) -> TunnelView | None:
        """A tunnel by its id, whatever its status."""
        entry = self._by_id.get(tunnel_id)
        return entry.view if entry is not None else None

    def presence(self, tunnel_id: TunnelId) -> Presence:
        entry = self._by_id.get(tunnel_id)
        return entry.presence if entry is not None else Presence()

    # What is told.

    def on_change(self, call: Callable[[Change], None]) -> None:
        """Have ``call`` told, at once and in order, of every change from here on."""
        self._on_change.append(call)

    def on_trespass(self, call: Callable[[ApiKey, TunnelView, str], None]) -> None:
        """Have ``call(key, tunnel, peer)`` told of each live key that claims a tunnel it has no right to."""
        self._on_trespass.append(call)

    def on_used(self, call: Callable[[KeyId], None]) -> None:
        """Have ``call`` told of each key that lets an agent in."""
        self._on_used.append(call)

    def used(self, key_id: KeyId) -> None:
        for call in self._on_used:
            call(key_id)

    def trespassed(self, key: ApiKey, tunnel: TunnelView, peer: str) -> None:
        for call in self._on_trespass:
            call(key, tunnel, peer)

    def had_sessions(self) -> list[TunnelId]:
        """The tunnels of which a session was ever told."""
        return [each for each, entry in self._by_id.items() if entry.presence.last_connected_at is not None]

    def told(self) -> Told:
        """All that is here, for ``as_told``."""
        return Told(set(self._by_id), set(self._keys), set(self._hosts), set(self._sandboxes))

    def as_told(self, told: Told) -> Iterator[Change]:
        """Those of these records that are still there, as they now are."""
        for tunnel_id in told.tunnels:
            if (entry := self._by_id.get(tunnel_id)) is not None:
                yield TunnelPut(entry.view, entry.secret_digest)
        for handle in told.handles:
            if (put := self._keys.get(handle)) is not None:
                yield put
        for host_id in told.hosts:
            if (host := self._hosts.get(host_id)) is not None:
                yield HostPut(host)
        for sandbox_id in told.sandboxes:
            if (sandbox := self._sandboxes.get(sandbox_id)) is not None:
                yield SandboxPut(sandbox)

    def apply(self, change: Change) -> None:
        """Take a change that another snapshot told of."""
        match change:
            case TunnelPut():
                self.put_tunnel(change.view, change.digest)
            case TunnelDropped():
                self.drop_tunnel(change.tunnel)
            case SessionsEnded():
                self.end_sessions(change.tunnel)
            case KeyPut():
                self.put_key(change.key, change.handle, change.digest)
            case KeyDropped():
                self.drop_key(change.key, change.handle)
            case HostPut():
                self.put_host(change.view)
            case HostDropped():
                self.drop_host(change.host)
            case SandboxPut():
                self.put_sandbox(change.view)
            case SandboxDropped():
                self.drop_sandbox(change.sandbox)
            case _:
                assert_never(change)

    def keep_only(self, told: Told) -> None:
        """Drop what is not in it: it went while nobody told of it."""
        for tunnel_id in self._by_id.keys() - told.tunnels:
            self.drop_tunnel(tunnel_id)
        for handle in self._keys.keys() - told.handles:
            self.drop_key(self._keys[handle].key.id, handle)
        for sandbox_id in self._sandboxes.keys() - told.sandboxes:
            self.drop_sandbox(sandbox_id)
        for host_id in self._hosts.keys() - told.hosts:
            self.drop_host(host_id)

    def put_key(self, record: ApiKey, handle: str, digest: bytes) -> None:
        put = self._keys[handle] = KeyPut(record, handle, digest)
        if record.expires_at is not None and record.live(self._clock()):
            self._expiring[record.id] = record.expires_at
        self._tell(put)

    def drop_key(self, key_id: KeyId, handle: str) -> None:
        """Forget a revoked key, and end what lives by it."""
        self._keys.pop(handle, None)
        self._expiring.pop(key_id, None)
        self._revoked(key_id)
        self._tell(KeyDropped(key_id, handle))

    def expire(self) -> None:
        """End what lives by keys whose time has come; asked every second."""
        now = self._clock()
        for key_id in [key_id for key_id, at in self._expiring.items() if at <= now]:
            del self._expiring[key_id]
            self._revoked(key_id)

    def put_tunnel(self, view: TunnelView, secret_digest: bytes, presence: Presence | None = None) -> None:
        """Take a tunnel's record as it now is; ``presence`` only where none is known yet."""
        entry = self._by_id.get(view.id)
        if entry is None:
            entry = self._by_id[view.id] = _Tunnel(view, secret_digest, presence or Presence())
        entry.view, entry.secret_digest = view, secret_digest
        self._by_name[view.name] = entry
        if view.status in (TunnelStatus.ACTIVE, TunnelStatus.AWAITING_CERT):
            self._routes[view.name] = view
        elif self._routes.pop(view.name, None) is not None:
            self._removed(view.id)
        self._tell(TunnelPut(view, secret_digest))

    def put_host(self, view: HostView) -> None:
        self._hosts[view.id] = view
        self._tell(HostPut(view))

    def drop_host(self, host_id: HostId) -> None:
        """Forget a host, and end its sessions."""
        if self._hosts.pop(host_id, None) is not None:
            for call in self._on_host_removed:
                call(host_id)
            self._tell(HostDropped(host_id))

    def put_sandbox(self, view: SandboxView) -> None:
        self._sandboxes[view.id] = view
        self._sandbox_changed(view.id)
        self._tell(SandboxPut(view))

    def drop_sandbox(self, sandbox_id: SandboxId) -> None:
        if self._sandboxes.pop(sandbox_id, None) is not None:
            self._sandbox_changed(sandbox_id)
            self._tell(SandboxDropped(sandbox_id))

    def put_presence(self, tunnel_id: TunnelId, presence: Presence) -> None:
        """Take a tunnel's presence from whoever has its sessions: what is None there is not known there."""
        entry = self._by_id.get(tunnel_id)
        if entry is not None:
            ended = presence.last_disconnected_at or entry.presence.last_disconnected_at
            entry.presence = replace(presence, last_disconnected_at=ended)
            self._on_presence(tunnel_id)

    def drop_tunnel(self, tunnel_id: TunnelId) -> None:
        """Forget a tunnel that was deleted: its name may be another's from now on."""
        entry = self._by_id.pop(tunnel_id, None)
        if entry is None:
            return
        if self._by_name.get(entry.view.name) is entry:
            del self._by_name[entry.view.name]
            self._routes.pop(entry.view.name, None)
        self._removed(tunnel_id)
        self._tell(TunnelDropped(tunnel_id))

    def end_sessions(self, tunnel_id: TunnelId) -> None:
        """End the live sessions of a tunnel; whoever still has a credential for it may come back."""
        self._removed(tunnel_id)
        self._tell(SessionsEnded(tunnel_id))

    def _removed(self, tunnel_id: TunnelId) -> None:
        for call in self._on_removed:
            call(tunnel_id)

    def _sandbox_changed(self, sandbox_id: SandboxId) -> None:
        for call in self._on_sandbox:
            call(sandbox_id)

    def _revoked(self, key_id: KeyId) -> None:
        for call in self._on_revoked:
            call(key_id)

    def _tell(self, change: Change) -> None:
        for call in self._on_change:
            call(change)
