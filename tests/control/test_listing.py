"""The list's shortcut: what it writes is what each tunnel's own record says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import TypeAdapter

from tests.control.conftest import PUBLIC, Clock
from wellhead.control.listing import Listing
from wellhead.control.store import Store
from wellhead.control.store.rows import Filter
from wellhead.control.store.store import BATCH
from wellhead.control.tunnels import tunnel_record
from wellhead.model.names import Public
from wellhead.model.records import OrganizationId, TlsMode, Tunnel, TunnelId

_records = TypeAdapter(list[Tunnel])

PUBLICS = [
    PUBLIC,
    Public("localhost", "2001:db8::7", 443),
    Public("my-site.example", "my-site.example", 8443, 80),
]


async def written(store: Store, organization: OrganizationId, public: Public, limit: int | None) -> str:
    listing = Listing(store.directory, public)
    batches = store.each_listed(organization, Filter(), None if limit is None else limit + 1)
    return (await listing.text(batches, limit)).decode()


@pytest.mark.parametrize("public", PUBLICS)
async def test_a_list_says_of_each_tunnel_what_its_record_says(
    store: Store, organization: OrganizationId, public: Public
) -> None:
    odd: dict[str, object] = {"a b": ['"\\', None, 1.5, {"ü": "\u2028</script>"}], "": {}}
    await store.create_tunnel(organization, "plain", TlsMode.EDGE)
    for number, mode in enumerate(TlsMode):
        await store.create_tunnel(organization, f"odd-{number}", mode, 'said "so"\n\x07ü', odd)
    gone, _ = await store.create_tunnel(organization, "gone", TlsMode.EDGE)
    await store.delete_tunnel(organization, gone.id)
    seen, _ = await store.create_tunnel(organization, "seen", TlsMode.EDGE)
    store.directory.session_opened(TunnelId(seen.id), "s_1", "2001:db8::1", 'agent "1" \\ \u202e')
    left, _ = await store.create_tunnel(organization, "left", TlsMode.EDGE)
    store.directory.session_opened(TunnelId(left.id), "s_2", "192.0.2.7", "")
    store.directory.session_closed(TunnelId(left.id), "s_2")

    records = [
        tunnel_record(row, store.directory.presence(TunnelId(row.id)), public)
        for row in await store.tunnels(organization)
    ]
    text = await written(store, organization, public, None)
    assert json.loads(text) == {"tunnels": json.loads(_records.dump_json(records))}
    assert _records.validate_python(json.loads(text)["tunnels"]) == records


async def test_a_time_without_fraction_is_written_as_elsewhere(
    store: Store, organization: OrganizationId, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "clock", lambda: datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    text = await written(store, organization, PUBLIC, None)
    assert '"created_at":"2030-01-02T03:04:05Z"' in text
    record = tunnel_record(row, store.directory.presence(TunnelId(row.id)), PUBLIC)
    assert _records.dump_json([replace(record)]).decode() in text


@pytest.mark.parametrize("limit", [1, BATCH - 1, BATCH, BATCH + 1])
async def test_pages_that_end_at_a_batchs_edge_lead_to_the_rest(
    store: Store, organization: OrganizationId, api: httpx.AsyncClient, limit: int
) -> None:
    for number in range(BATCH + 1):
        await store.create_tunnel(organization, f"agent-{number:04d}", TlsMode.EDGE)
    page = json.loads(await written(store, organization, PUBLIC, limit))
    assert len(page["tunnels"]) == limit
    if limit == BATCH + 1:
        assert page["next_cursor"] is None
        return
    answer = await api.get("/tunnels/", params={"cursor": page["next_cursor"]})
    rest = [tunnel["tunnel_name"] for tunnel in answer.json()["tunnels"]]
    assert rest == [f"agent-{number:04d}" for number in range(limit, BATCH + 1)]
