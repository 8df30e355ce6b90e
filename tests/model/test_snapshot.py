from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from wellhead.edge.directory import Directory
from wellhead.errors import Retry, SecretRejected, TunnelForbidden, TunnelRemoved
from wellhead.model import access
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret
from wellhead.model.changes import HostDropped, HostPut, SandboxPut
from wellhead.model.records import (
    ApiKey,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.model.sandboxes import HostId, HostStatus, HostView, SandboxId, SandboxStatus, SandboxView
from wellhead.model.snapshot import Presence, Snapshot, Told

OURS, THEIRS = OrganizationId("ours"), OrganizationId("theirs")
TUNNEL = TunnelId("0b0c")
T = TypeVar("T")


def now(answer: Coroutine[object, object, T]) -> T:
    """What a coroutine gives that waits for nothing: it needs no loop."""
    try:
        answer.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise AssertionError("it waits")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Records:
    """A snapshot with one tunnel."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.noted: list[TunnelId] = []
        self.snapshot = Snapshot(self.noted.append, self.clock)
        self.secret = access.mint(access.CONNECT_SECRET)
        self.put()

    def put(self, status: TunnelStatus = TunnelStatus.ACTIVE) -> TunnelView:
        view = TunnelView(TUNNEL, "my-agent", OURS, status, TlsMode.EDGE)
        self.snapshot.put_tunnel(view, access.digest(self.secret))
        return view

    def key(
        self,
        *scopes: Scope,
        organization: OrganizationId = OURS,
        expires_at: datetime | None = None,
        revoked_at: datetime | None = None,
    ) -> Secret:
        key = access.mint(access.API_KEY)
        record = ApiKey(
            KeyId("k"),
            organization,
            access.last4(key),
            scopes,
            self.clock(),
            expires_at,
            revoked_at,
        )
        self.snapshot.put_key(record, access.handle_of(key), access.digest(key))
        return key


@pytest.fixture
def records() -> Records:
    return Records()


def test_the_snapshot_is_what_the_edge_asks_for(records: Records) -> None:
    directory: Directory = records.snapshot
    assert directory.tunnel("my-agent") == records.put()
    assert directory.tunnel("My-Agent") is None
    assert directory.tunnel("other") is None


@pytest.mark.parametrize("status", [TunnelStatus.PENDING_REMOVAL, TunnelStatus.DELETED])
def test_a_tunnel_on_its_way_out_is_not_routed_to(records: Records, status: TunnelStatus) -> None:
    records.put(status)
    assert records.snapshot.tunnel("my-agent") is None
    records.put()
    assert records.snapshot.tunnel("my-agent") is not None


def test_a_tunnel_that_awaits_its_certificate_has_agents_which_a_delete_ends(records: Records) -> None:
    removed: list[TunnelId] = []
    records.snapshot.on_removed(removed.append)
    records.put(TunnelStatus.AWAITING_CERT)
    view = records.snapshot.tunnel("my-agent")
    assert view is not None and view.status is TunnelStatus.AWAITING_CERT
    records.put()
    assert removed == []
    records.put(TunnelStatus.AWAITING_CERT)
    records.put(TunnelStatus.PENDING_REMOVAL)
    assert removed == [TUNNEL] and records.snapshot.tunnel("my-agent") is None


@pytest.mark.parametrize("tunnel", ["my-agent", TUNNEL])
def test_the_connect_secret_admits_by_name_and_by_id(records: Records, tunnel: str) -> None:
    admission = now(records.snapshot.admit(tunnel, records.secret, "192.0.2.7", "test"))
    assert (admission.tunnel.id, admission.key_id) == (TUNNEL, None)


def test_keys_of_the_organization_admit_by_their_scopes(records: Records) -> None:
    for key in (records.key(ADMIN), records.key(Scope(ScopeKind.TUNNEL, TUNNEL))):
        admission = now(records.snapshot.admit("my-agent", key, "", ""))
        assert (admission.tunnel.id, admission.key_id) == (TUNNEL, "k")


def test_every_refusal_is_the_same(records: Records) -> None:
    past = records.clock.now - timedelta(seconds=1)
    refused = [
        ("my-agent", access.mint(access.CONNECT_SECRET)),
        ("other", records.secret),
        ("", records.secret),
        ("my-agent", Secret("")),
        ("my-agent", Secret("pass\u00e9\ud800")),
        ("my-agent", Secret(records.secret.reveal() + "x")),
        ("my-agent", Secret(records.secret.reveal()[:-1] + "\u00e9")),
        ("my-agent", records.key()),
        ("my-agent", records.key(Scope(ScopeKind.TUNNEL, "another"))),
        ("my-agent", records.key(ADMIN, organization=THEIRS)),
        ("my-agent", records.key(ADMIN, expires_at=past)),
        ("my-agent", records.key(ADMIN, revoked_at=past)),
        ("other", records.key(ADMIN)),
    ]
    said = set()
    for tunnel, secret in refused:
        with pytest.raises(SecretRejected) as caught:
            now(records.snapshot.admit(tunnel, secret, "", ""))
        said.add(str(caught.value))
        assert caught.value.retry is Retry.NEVER
    assert len(said) == 1


def test_who_has_the_secret_of_a_removed_tunnel_is_told_so_and_nobody_else(records: Records) -> None:
    records.put(TunnelStatus.PENDING_REMOVAL)
    with pytest.raises(TunnelRemoved, match="my-agent is delete_pending"):
        now(records.snapshot.admit("my-agent", records.secret, "", ""))
    with pytest.raises(SecretRejected):
        now(records.snapshot.admit("my-agent", access.mint(access.CONNECT_SECRET), "", ""))


def test_a_tunnel_that_is_named_like_the_id_of_another_does_not_take_its_agents(records: Records) -> None:
    theirs = TunnelView(TunnelId("other"), TUNNEL, THEIRS, TunnelStatus.ACTIVE, TlsMode.EDGE)
    records.snapshot.put_tunnel(theirs, access.digest(access.mint(access.CONNECT_SECRET)))
    assert now(records.snapshot.admit(TUNNEL, records.secret, "", "")).tunnel.id == TUNNEL


@pytest.mark.parametrize("tunnel", ["my-agent", "no-agent"])
def test_a_credential_that_is_nobodys_is_told_from_one_for_another_tunnel_or_none(
    records: Records, tunnel: str
) -> None:
    past = records.clock.now - timedelta(seconds=1)
    nobodys = [
        access.mint(access.API_KEY),
        records.key(ADMIN, revoked_at=past),
        Secret("ApiKey_x"),
        Secret(""),
    ]
    somebodys = [records.key(Scope(ScopeKind.TUNNEL, "another")), records.key(ADMIN, organization=THEIRS)]
    # A tunnel that is there knows its own secret; what opened one that is gone looks as any other.
    (somebodys if tunnel == "no-agent" else nobodys).append(access.mint(access.CONNECT_SECRET))
    for secret in nobodys:
        with pytest.raises(SecretRejected) as caught:
            now(records.snapshot.admit(tunnel, secret, "", ""))
        assert not isinstance(caught.value, TunnelForbidden)
    for secret in somebodys:
        with pytest.raises(TunnelForbidden) as forbidden:
            now(records.snapshot.admit(tunnel, secret, "", ""))
        assert forbidden.value.code == SecretRejected.code


def test_a_key_works_until_it_expires(records: Records) -> None:
    key = records.key(ADMIN, expires_at=records.clock.now + timedelta(hours=1))
    assert now(records.snapshot.is_admin(key))
    records.clock.now += timedelta(hours=1)
    assert not now(records.snapshot.is_admin(key))


def test_only_a_live_admin_key_is_admin(records: Records) -> None:
    assert now(records.snapshot.is_admin(records.key(ADMIN)))
    for other in (
        records.key(Scope(ScopeKind.TUNNEL, TUNNEL)),
        records.secret,
        Secret(""),
        access.mint("wh"),
    ):
        assert not now(records.snapshot.is_admin(other))


def test_a_tunnel_is_connected_while_any_of_its_sessions_lives(records: Records) -> None:
    snapshot, opened = records.snapshot, records.clock.now
    snapshot.session_opened(TUNNEL, "s_1", "192.0.2.7", "test")
    snapshot.session_opened(TUNNEL, "s_2", "192.0.2.8", "test")
    records.clock.now += timedelta(seconds=1)
    snapshot.session_closed(TUNNEL, "s_1")
    presence = snapshot.presence(TUNNEL)
    assert (presence.connected, presence.last_ip) == (True, "192.0.2.8")
    assert (presence.last_connected_at, presence.last_disconnected_at) == (opened, None)
    snapshot.session_closed(TUNNEL, "s_2")
    presence = snapshot.presence(TUNNEL)
    assert (presence.connected, presence.last_disconnected_at) == (False, records.clock.now)
    assert set(records.noted) == {TUNNEL}


def test_sessions_that_nobody_knows_change_nothing(records: Records) -> None:
    records.snapshot.session_opened(TunnelId("gone"), "s_1", "", "")
    records.snapshot.session_closed(TunnelId("gone"), "s_1")
    records.snapshot.session_closed(TUNNEL, "s_1")
    assert records.noted == []


def test_a_change_of_the_record_keeps_its_sessions(records: Records) -> None:
    records.snapshot.session_opened(TUNNEL, "s_1", "192.0.2.7", "test")
    records.put(TunnelStatus.PENDING_REMOVAL)
    assert records.snapshot.presence(TUNNEL).connected


def test_a_snapshot_without_its_teller_says_that_it_may_be_old(records: Records) -> None:
    assert records.snapshot.is_current()
    records.snapshot.current = False
    assert not records.snapshot.is_current() and records.snapshot.tunnel("my-agent") is not None


def host_view(number: int, status: HostStatus = HostStatus.ONLINE) -> HostView:
    return HostView(HostId(f"host-{number}"), OURS, status)


def sandbox_view(number: int, status: SandboxStatus = SandboxStatus.RUNNING) -> SandboxView:
    return SandboxView(SandboxId(f"cl-{number}"), OURS, HostId("host-1"), status)


def test_hosts_and_sandboxes_are_told_as_they_are_and_followed(records: Records) -> None:
    source, copy = records.snapshot, Snapshot(records.noted.append, records.clock)
    source.put_host(host_view(1))
    source.put_sandbox(sandbox_view(1))
    for change in source.as_told(source.told()):
        copy.apply(change)
    assert copy.host(HostId("host-1")) == host_view(1) and copy.sandbox(SandboxId("cl-1")) == sandbox_view(1)
    source.on_change(copy.apply)
    source.put_host(host_view(1, HostStatus.UNREACHABLE))
    source.put_sandbox(sandbox_view(1, SandboxStatus.MISSING))
    assert copy.hosts() == [host_view(1, HostStatus.UNREACHABLE)]
    assert copy.sandbox(SandboxId("cl-1")) == sandbox_view(1, SandboxStatus.MISSING)
    removed: list[HostId] = []
    copy.on_host_removed(removed.append)
    source.drop_sandbox(SandboxId("cl-1"))
    source.drop_host(HostId("host-1"))
    source.drop_host(HostId("host-1"))
    assert copy.sandbox(SandboxId("cl-1")) is None and copy.hosts() == [] and removed == ["host-1"]


def test_each_change_of_a_sandbox_is_told_when_it_is_there_to_be_seen(records: Records) -> None:
    copy, seen = records.snapshot, list[tuple[SandboxId, SandboxView | None]]()
    copy.on_sandbox(lambda sandbox: seen.append((sandbox, copy.sandbox(sandbox))))
    first, second = sandbox_view(1), sandbox_view(1, SandboxStatus.PAUSED)
    copy.put_sandbox(first)
    copy.apply(SandboxPut(second))
    copy.drop_sandbox(first.id)
    copy.drop_sandbox(first.id)
    assert seen == [(first.id, first), (first.id, second), (first.id, None)]


def test_hosts_and_sandboxes_that_nobody_told_of_are_dropped(records: Records) -> None:
    copy, told = records.snapshot, Told()
    for number in (1, 2):
        copy.put_host(host_view(number))
        copy.put_sandbox(sandbox_view(number))
    for change in (HostPut(host_view(2)), SandboxPut(sandbox_view(2)), HostDropped(HostId("host-1"))):
        told.note(change)
    told.tunnels, told.handles = copy.told().tunnels, copy.told().handles
    removed: list[HostId] = []
    copy.on_host_removed(removed.append)
    copy.keep_only(told)
    assert copy.hosts() == [host_view(2)] and removed == ["host-1"]
    assert copy.sandbox(SandboxId("cl-1")) is None and copy.sandbox(SandboxId("cl-2")) == sandbox_view(2)
    assert copy.tunnel_of_id(TUNNEL) is not None


def test_what_is_told_of_one_snapshot_makes_another_alike(records: Records) -> None:
    key, copy = records.key(ADMIN), Snapshot(records.noted.append, records.clock)
    for change in records.snapshot.as_told(records.snapshot.told()):
        copy.apply(change)
    assert copy.key(key) == records.snapshot.key(key) is not None
    records.snapshot.on_change(copy.apply)
    ended: list[TunnelId] = []
    copy.on_removed(ended.append)
    records.put(TunnelStatus.PENDING_REMOVAL)
    assert copy.tunnel("my-agent") is None and ended == [TUNNEL]
    assert copy.tunnel_of_id(TUNNEL) == records.snapshot.tunnel_of_id(TUNNEL)
    records.snapshot.drop_tunnel(TUNNEL)
    assert copy.tunnel_of_id(TUNNEL) is None


def test_presence_told_from_afar_does_not_forget_the_last_end(records: Records) -> None:
    snapshot, ended = records.snapshot, records.clock.now
    snapshot.put_presence(TUNNEL, Presence(False, ended, ended, "192.0.2.7", "agent/1"))
    snapshot.put_presence(TUNNEL, Presence(True, ended, None, "192.0.2.8", "agent/1"))
    presence = snapshot.presence(TUNNEL)
    assert (presence.connected, presence.last_disconnected_at, presence.last_ip) == (True, ended, "192.0.2.8")
    snapshot.put_presence(TunnelId("gone"), presence)
    assert records.noted == [TUNNEL, TUNNEL]
