"""Both ends of the records' feed, joined by a socket pair as in a server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import httpx
import pytest

from tests.control.conftest import PUBLIC
from tests.kit.control import built, caller
from tests.kit.fake_hosts import FakeHost
from wellhead.control import feed as control_feed
from wellhead.control.feed import Feed
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.control.store.hosts import Hosts
from wellhead.control.store.sandboxes import Sandboxes
from wellhead.edge import follower as edge_follower
from wellhead.edge.follower import Follower, Link
from wellhead.errors import LinkError, LocalStateError, ProtocolError, SecretRejected
from wellhead.model.access import ADMIN, Secret
from wellhead.model.records import OrganizationId, TlsMode, TunnelId, TunnelStatus, TunnelView
from wellhead.model.sandboxes import SandboxId, SandboxStatus, SandboxView
from wellhead.model.snapshot import Snapshot, Told
from wellhead.model.visibility import PortAccess, Visibility
from wellhead.settings import ServerSettings
from wellhead.wire.feed import Wake

MANY = 350  # more than three batches


@dataclass
class Joined:
    """A feed and the link at its other end."""

    feed: Feed
    link: Link
    edge: asyncio.Transport  # the edge's end


@asynccontextmanager
async def joined(follower: Follower) -> AsyncIterator[Joined]:
    loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()
    transport, link = await loop.create_unix_connection(follower.link, sock=ours)
    other, feed = await loop.create_unix_connection(Feed, sock=theirs)
    try:
        yield Joined(feed, link, transport)
    finally:
        other.abort()
        async with asyncio.timeout(1):
            await link.lost


@pytest.fixture
async def follower() -> AsyncIterator[Follower]:
    made = Follower(tell_seconds=0)
    yield made
    made.close()


async def until(check: Callable[[], bool]) -> None:
    """Let the two ends have their turns until it is true."""
    for _ in range(10_000):
        if check():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.wrote = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        self.wrote.set()


def _view(number: int) -> TunnelView:
    name, organization = f"name-{number}", OrganizationId("o")
    return TunnelView(TunnelId(f"t-{name}"), name, organization, TunnelStatus.ACTIVE, TlsMode.EDGE)


async def test_a_crowd_of_agents_is_told_in_one_line_and_not_in_one_each() -> None:
    follower, wire = Follower(tell_seconds=0.05), Wire()
    link = follower.link()
    link.connection_made(wire)
    views = [_view(n) for n in range(50)]
    for view in views:
        follower.directory.put_tunnel(view, b"")
    follower.on_whole(link, Told(tunnels={view.id for view in views}))
    for view in views:
        follower.directory.session_opened(view.id, "s_1", "192.0.2.7", "agent/1")
        await asyncio.sleep(0)  # each in a turn of its own
    async with asyncio.timeout(5):
        await wire.wrote.wait()
    told = [line for line in wire.written if b'"presences"' in line]
    assert len(told) == 1 and all(view.id.encode() in told[0] for view in views)
    follower.close()
    link.connection_lost(None)


async def test_the_copy_is_the_records_and_follows_every_change(
    store: Store, organization: OrganizationId, admin: Secret, follower: Follower
) -> None:
    made = [await store.create_tunnel(organization, f"name-{n}", TlsMode.EDGE) for n in range(MANY)]
    assert not follower.directory.is_current()
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=True)
        async with asyncio.timeout(1):
            assert (await pair.link.whole).made_key
        copy = follower.directory
        assert copy.is_current() and len(copy) == MANY and await copy.is_admin(admin)
        row, secret = made[-1]
        assert (await copy.admit(row.name, secret, "", "")).tunnel == store.directory.tunnel(row.name)

        ended: list[TunnelId] = []
        copy.on_removed(ended.append)
        fresh = await store.rotate_secret(organization, row.id)
        await pair.feed.settle()
        with pytest.raises(SecretRejected):
            await copy.admit(row.name, secret, "", "")
        assert (await copy.admit(row.name, fresh, "", "")).tunnel.id == row.id and not ended
        await store.rotate_secret(organization, row.id, hard=True)
        await store.delete_tunnel(organization, made[0][0].id)
        await store.delete_tunnel(organization, made[1][0].id)
        await store.force_delete_tunnel(organization, made[1][0].id)
        key, text = await store.create_key(organization, [ADMIN])
        await pair.feed.settle()
        assert set(ended) == {row.id, made[0][0].id, made[1][0].id}
        assert copy.tunnel("name-0") is None and len(copy) == MANY - 1
        assert await copy.is_admin(text)
        revoked: list[str] = []
        copy.on_revoked(revoked.append)
        await store.keys.revoke(organization, key.id)
        await pair.feed.settle()
        assert revoked == [key.id] and not await copy.is_admin(text)
    assert not copy.is_current() and copy.tunnel("name-5") is not None, "it stays as it was"


async def test_what_went_while_nobody_told_of_it_is_gone_once_all_is_told(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    key, text = await store.create_key(organization, [ADMIN])
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
    ended: list[str] = []
    follower.directory.on_removed(ended.append)
    follower.directory.on_revoked(ended.append)
    await store.delete_tunnel(organization, row.id)
    await store.force_delete_tunnel(organization, row.id)
    await store.keys.revoke(organization, key.id)
    again, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)  # another's, of that name
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        assert ended == [row.id, key.id] and not await follower.directory.is_admin(text)
        view = follower.directory.tunnel("my-agent")
        assert view is not None and view.id == again.id


async def test_hosts_and_sandboxes_are_whole_after_a_restart_of_either_side(
    store: Store, host: FakeHost, api: httpx.AsyncClient, follower: Follower
) -> None:
    kept, ended, over = [SandboxId((await api.post("/sandboxes", json={})).json()["id"]) for _ in range(3)]
    await api.delete(f"/sandboxes/{over}")
    copy = follower.directory
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        assert copy.host(host.id) == store.directory.host(host.id) is not None
        for sandbox in (kept, ended, over):
            assert copy.sandbox(sandbox) == store.directory.sandbox(sandbox) is not None
    await api.delete(f"/sandboxes/{ended}")
    async with store._database.writing() as session:  # as a control plane begins anew
        fresh = Snapshot(lambda tunnel: None)
        fresh_hosts = Hosts(store._database, fresh, store.keys, store.clock)
        await fresh_hosts.load(session)
        await Sandboxes(store._database, fresh, store.clock).load(session)
    async with joined(follower) as pair:
        await pair.feed.tell_all(fresh, made_key=False)
        await pair.link.whole
        assert copy.host(host.id) == store.directory.host(host.id)
        assert copy.sandbox(kept) == store.directory.sandbox(kept)
        assert copy.sandbox(ended) is None and copy.sandbox(over) is None, "what is over is not told again"


async def test_agents_comings_and_goings_reach_the_records_and_are_told_again_to_a_new_control_plane(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    stays, _ = await store.create_tunnel(organization, "stays", TlsMode.EDGE)
    leaves, _ = await store.create_tunnel(organization, "leaves", TlsMode.EDGE)
    copy = follower.directory

    def seen() -> bool:
        ids = TunnelId(stays.id), TunnelId(leaves.id)
        return all(store.directory.presence(each) == copy.presence(each) for each in ids)

    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        copy.session_opened(TunnelId(stays.id), "s_1", "192.0.2.7", "agent/1")
        copy.session_opened(TunnelId(leaves.id), "s_2", "192.0.2.8", "agent/1")
        await until(seen)
        assert store.directory.presence(TunnelId(stays.id)).last_ip == "192.0.2.7"
    copy.session_closed(TunnelId(leaves.id), "s_2")
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        await until(seen)
        assert not store.directory.presence(TunnelId(leaves.id)).connected
        assert store.directory.presence(TunnelId(stays.id)).connected


async def test_an_agent_that_comes_with_a_key_has_used_it(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    """Also where nobody was there to be told: it is told later, once, however often it was used."""
    key, text = await store.create_key(organization, [ADMIN])
    row, secret = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)

    async def last() -> datetime | None:
        return store.uses.last(await store.keys.one(organization, key.id))

    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        await follower.directory.admit("my-agent", secret, "", "")
        assert await last() is None, "a connect secret is no key"
    for _ in range(3):
        await follower.directory.admit("my-agent", text, "", "")
    assert list(follower._used) == [key.id] and await last() is None
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        await until(lambda: bool(store.uses._unwritten))
        assert await last() is not None and not follower._used


async def test_a_claim_of_anothers_tunnel_comes_into_the_claimers_audit(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    theirs, key = await store.create_organization("theirs")
    await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        with pytest.raises(SecretRejected):
            await follower.directory.admit("my-agent", key, "192.0.2.7", "")
        async with asyncio.timeout(5):
            while not (found := await store.audit.page(theirs, 10, action="tunnel.claim_refused")):
                await store._trespasses.write()
    assert (found[0].target_name, found[0].address) == ("my-agent", "192.0.2.7")


async def test_an_answer_waits_for_the_edge_and_not_for_longer_than_its_time(
    store: Store, admin: Secret, follower: Follower, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(control_feed, "SETTLE_SECONDS", 0.2)
    async with joined(follower) as pair:
        app = built(store, PUBLIC, ServerSettings(), pair.feed.settle)
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        async with caller(app, admin) as api:
            assert (await api.post("/tunnels/", json={"tunnel_name": "quick"})).status_code == 201
            assert follower.directory.tunnel("quick") is not None
            pair.edge.pause_reading()
            answer = await api.post("/tunnels/", json={"tunnel_name": "slow"})
            assert answer.status_code == 201 and follower.directory.tunnel("slow") is None
            assert "the edge is behind" in caplog.text
            caplog.clear()
            assert (await api.get("/tunnels/")).status_code == 200
            assert not caplog.text, "who changes nothing waits for nothing"
            pair.edge.resume_reading()
            await until(lambda: follower.directory.tunnel("slow") is not None)


async def test_what_concerns_a_sandbox_s_ports_holds_at_the_edge_when_it_is_answered(
    store: Store, host: FakeHost, fleet: Fleet, admin: Secret, follower: Follower
) -> None:
    async with joined(follower) as pair:
        app = built(store, PUBLIC, ServerSettings(), pair.feed.settle, fleet=fleet)
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        async with caller(app, admin) as api:
            ports = {"3000": "team", "80": "private"}
            asked = {"visibility": "public", "port_visibility": ports, "auto_resume": True}
            made = await api.post("/sandboxes", json=asked)
            sandbox = SandboxId(made.json()["id"])
            path = f"/sandboxes/{sandbox}"

            def here() -> SandboxView:
                view = follower.directory.sandbox(sandbox)
                assert view is not None and view == store.directory.sandbox(sandbox)
                return view

            own = ((80, Visibility.PRIVATE), (3000, Visibility.TEAM))
            assert here().access == PortAccess(Visibility.PUBLIC, own, 0, auto_resume=True)
            await api.patch(path, json={"visibility": "private", "port_visibility": {"3000": None}})
            assert here().access == PortAccess(Visibility.PRIVATE, own[:1], 0, auto_resume=True)
            assert (await api.delete(f"{path}/links")).status_code == 204
            assert here().access.links_epoch == 1
            await api.post(f"{path}/pause")
            assert here().status is SandboxStatus.PAUSED
            await api.delete(path)
            assert here().status is SandboxStatus.STOPPED


async def test_a_visitor_at_the_edge_resumes_a_sandbox_and_the_edge_hears_of_it(
    store: Store, host: FakeHost, fleet: Fleet, api: httpx.AsyncClient, follower: Follower
) -> None:
    sandbox = SandboxId((await api.post("/sandboxes", json={"auto_resume": True})).json()["id"])
    await api.post(f"/sandboxes/{sandbox}/pause")
    async with joined(follower) as pair:
        pair.feed.on_wake = fleet.wakes.wake
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        changed, runs = list[SandboxId](), asyncio.Event()

        def note(which: SandboxId) -> None:
            changed.append(which)
            view = follower.directory.sandbox(which)
            if view is not None and view.status is SandboxStatus.RUNNING:
                runs.set()

        follower.directory.on_sandbox(note)
        for _ in range(3):
            follower.tell(Wake(sandbox))
        async with asyncio.timeout(10):
            await runs.wait()
        assert set(changed) == {sandbox}


async def test_a_control_plane_that_cannot_serve_says_why(follower: Follower) -> None:
    async with joined(follower) as pair:
        await pair.feed.fail("the database is in use")
        with pytest.raises(LocalStateError, match="^the database is in use$"):
            await pair.link.whole


async def test_one_that_ends_before_it_has_told_all_is_no_control_plane(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    async with joined(follower) as pair:
        cast(asyncio.Transport, pair.feed._transport).abort()
        with pytest.raises(LinkError):
            await pair.link.whole
    assert not follower.directory.is_current()


async def test_nonsense_ends_the_feed_on_either_side(
    store: Store, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(follower) as pair:
        pair.edge.write(b"nonsense\n")
        with pytest.raises(ProtocolError):
            async with asyncio.timeout(1):
                await pair.feed.over
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        cast(asyncio.Transport, pair.feed._transport).write(b'{"do":"mark"}\n')
        async with asyncio.timeout(1):
            await pair.link.lost
    assert "the records' feed broke" in caplog.text and not follower.directory.is_current()


async def test_a_stopping_edge_tells_what_is_left_first(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        follower.directory.session_opened(TunnelId(row.id), "s_1", "", "")
        pair.link.stop()
        async with asyncio.timeout(1):
            await pair.feed.over
        assert store.directory.presence(TunnelId(row.id)).connected


async def test_a_choked_feed_keeps_one_entry_a_tunnel(
    store: Store, organization: OrganizationId, follower: Follower
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        pair.link.pause_writing()
        for number in range(1000):
            follower.directory.session_opened(TunnelId(row.id), f"s_{number}", "", "")
            follower.directory.session_closed(TunnelId(row.id), f"s_{number}")
        await asyncio.sleep(0)
        assert list(follower._untold) == [row.id]
        pair.link.resume_writing()
        assert not follower._untold


async def test_one_that_hangs_is_away_and_back_when_it_answers(
    store: Store, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(follower) as pair:
        await pair.feed.tell_all(store.directory, made_key=False)
        await pair.link.whole
        pair.link._beat()
        await until(lambda: not pair.link._silent)
        hung = cast(asyncio.Transport, pair.feed._transport)
        hung.pause_reading()
        for _ in range(edge_follower.SILENT_BEATS):
            assert follower.directory.is_current()
            pair.link._beat()
        assert not follower.directory.is_current() and "control plane does not answer" in caplog.text
        hung.resume_reading()
        await until(follower.directory.is_current)
        hung.pause_reading()
        for _ in range(edge_follower.HUNG_BEATS + 1):
            pair.link._beat()
        async with asyncio.timeout(1):
            await pair.link.lost
    assert "control plane hangs" in caplog.text


async def test_one_that_has_yet_to_begin_is_waited_for(follower: Follower) -> None:
    async with joined(follower) as pair:
        cast(asyncio.Transport, pair.feed._transport).pause_reading()
        for _ in range(edge_follower.STARTING_BEATS):
            pair.link._beat()
        assert not pair.link.lost.done()
        pair.link._beat()
        with pytest.raises(LinkError):
            await pair.link.whole
