"""Who changed what."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from wellhead.control.store import Store
from wellhead.errors import SecretRejected
from wellhead.model.access import Secret
from wellhead.model.records import OrganizationId

# ["2026-01-01T00:00:00","\\ud800"]: a text that no database takes
HALF = "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwiXHVkODAwIl0"


async def entries(api: httpx.AsyncClient, **query: str | int) -> list[dict[str, Any]]:
    answer = await api.get("/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


async def test_every_change_has_its_entry_with_who_and_what(
    store: Store, api: httpx.AsyncClient, admin: Secret
) -> None:
    made = (await api.post("/tunnels/", json={"tunnel_name": "my-agent", "metadata": {"a": 1}})).json()
    tunnel = made["tunnel"]["id"]
    await api.patch(f"/tunnels/{tunnel}", json={"description": "text", "metadata": None})
    rotated = (await api.post(f"/tunnels/{tunnel}/rotate-secret?hard=true")).json()
    await api.delete(f"/tunnels/{tunnel}")
    await api.post(f"/tunnels/{tunnel}/restore")
    await api.delete(f"/tunnels/{tunnel}")
    await api.delete(f"/tunnels/{tunnel}/force")
    key = (await api.post("/keys", json={"label": "ci", "scopes": ["admin"]})).json()
    await api.delete(f"/keys/{key['record']['id']}")

    found = (await entries(api))[::-1]
    assert [(entry["action"], entry["before"], entry["after"]) for entry in found] == [
        ("organization.create", None, {"name": "default"}),
        ("key.create", None, {"label": "first key", "scopes": ["admin"], "expires_at": None}),
        (
            "tunnel.create",
            None,
            {
                "tunnel_name": "my-agent",
                "tls_mode": "edge",
                "status": "active",
                "description": None,
                "metadata": {"a": 1},
                "display_name": None,
            },
        ),
        (
            "tunnel.update",
            {"description": None, "metadata": {"a": 1}},
            {"description": "text", "metadata": {}},
        ),
        ("tunnel.rotate_secret", None, {"hard": True}),
        ("tunnel.delete", {"status": "active"}, {"status": "delete_pending"}),
        ("tunnel.restore", {"status": "delete_pending"}, {"status": "active"}),
        ("tunnel.delete", {"status": "active"}, {"status": "delete_pending"}),
        ("tunnel.force_delete", {"status": "delete_pending"}, {"status": "deleted"}),
        ("key.create", None, {"label": "ci", "scopes": ["admin"], "expires_at": None}),
        ("key.revoke", {"revoked_at": None}, found[-1]["after"]),
    ]
    record = store.directory.key(admin)
    assert record is not None
    for entry in found[:2]:
        assert (entry["actor"], entry["key_id"], entry["address"]) == ("server", None, None)
    for entry in found[2:]:
        assert (entry["actor"], entry["key_id"], entry["address"]) == ("key", record.id, "127.0.0.1")
        assert entry["key_last4"] == record.last4
    text = (await api.get("/audit")).text
    for secret in (made["connect_secret"], rotated["connect_secret"], key["api_key"], admin.reveal()):
        assert secret not in text and secret[12:30] not in text


async def test_what_was_refused_is_no_change(api: httpx.AsyncClient) -> None:
    made = (await api.post("/tunnels/", json={"tunnel_name": "my-agent"})).json()["tunnel"]
    before = await entries(api)
    for method, path, body in (
        ("POST", "/tunnels/", {"tunnel_name": "my-agent"}),
        ("POST", "/tunnels/", {"tunnel_name": "_"}),
        ("POST", f"/tunnels/{made['id']}/restore", None),
        ("DELETE", f"/tunnels/{made['id']}/force", None),
        ("PATCH", "/tunnels/nonsense", {}),
    ):
        assert (await api.request(method, path, json=body)).status_code >= 400
    assert await entries(api) == before


async def test_entries_come_in_pages_newest_first_and_filtered(api: httpx.AsyncClient) -> None:
    for number in range(5):
        await api.post("/tunnels/", json={"tunnel_name": f"agent-{number}"})
    whole = await entries(api)
    pages: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get("/audit", params={"limit": "3"} | cursor)).json()
        pages += answer["entries"]
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}
    assert pages == whole and len(whole) == 7
    assert [entry["target_name"] for entry in whole[:2]] == ["agent-4", "agent-3"]
    assert len(await entries(api, action="tunnel.create")) == 5
    assert await entries(api, target_id=whole[0]["target_id"]) == whole[:1]
    assert await entries(api, action="nothing") == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "W10", "WyIxIiwiMiJd", "WyItMSJd", "\u00e9", "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OSJd", HALF]
)
async def test_a_cursor_of_nobody_is_no_place(api: httpx.AsyncClient, cursor: str) -> None:
    for path in ("/audit", "/tunnels/", "/keys"):
        answer = await api.get(path, params={"cursor": cursor, "limit": 1})
        assert (answer.status_code, answer.json()) == (404, {"detail": "cursor is no place in this list"})


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1e3", "", "9" * 5000])
async def test_a_limit_out_of_bounds_is_refused(api: httpx.AsyncClient, limit: str) -> None:
    for path in ("/audit", "/tunnels/", "/keys"):
        assert (await api.get(path, params={"limit": limit})).status_code == 422


async def test_a_claim_of_anothers_tunnel_is_told_to_the_claimers_organization(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    await api.post("/tunnels/", json={"tunnel_name": "my-agent"})
    theirs, key = await store.create_organization("theirs")
    for _ in range(2):
        with pytest.raises(SecretRejected):
            await store.directory.admit("my-agent", key, "192.0.2.7", "test")
    await store._trespasses.write()
    (row, _, *_) = await store.audit.page(theirs, 10)
    assert (row.action, row.target_name, row.target_id, row.address) == (
        "tunnel.claim_refused", "my-agent", "", "192.0.2.7",
    )  # fmt: skip
    assert not await entries(api, action="tunnel.claim_refused")


async def test_behind_the_edge_the_address_is_the_one_that_the_edge_wrote(store: Store) -> None:
    from wellhead.control.access import caller_address

    forwarded = [(b"x-forwarded-for", b"2001:db8::7")]
    assert caller_address({"client": None, "headers": forwarded}) == "2001:db8::7"
    assert caller_address({"client": ("192.0.2.1", 5), "headers": forwarded}) == "192.0.2.1"
    for nonsense in ([], [(b"x-forwarded-for", b"\xff")], [(b"x-forwarded-for", b"localhost")]):
        assert caller_address({"client": None, "headers": nonsense}) == ""
