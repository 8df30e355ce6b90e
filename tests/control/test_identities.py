"""Identities: tunnels as the newer generation of clients makes, sees and ends them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from tests.control.conftest import PUBLIC, Clock
from wellhead.control.identities import identity_record
from wellhead.control.listing import Listing
from wellhead.control.store import Store
from wellhead.control.store.creation import Terms
from wellhead.control.store.duty import SIGHTING_SECONDS
from wellhead.control.store.rows import Filter
from wellhead.errors import RateLimited, SecretRejected, TunnelForbidden, TunnelRemoved
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import RESTORE_GRACE, Identity, KeyId, OrganizationId, TlsMode, TunnelId

Body = dict[str, Any]


async def made(api: httpx.AsyncClient, handle: str = "my-agent", **more: object) -> Body:
    answer = await api.post("/identities/", json={"agent_handle": handle, **more})
    assert answer.status_code == 201, answer.text
    body: Body = answer.json()
    return body


async def scoped_key(api: httpx.AsyncClient, identity: Body, **more: object) -> Body:
    answer = await api.post(
        "/api-keys", json={"label": "agent", "scoped_identity_id": identity["id"], **more}
    )
    assert answer.status_code == 201, answer.text
    body: Body = answer.json()
    return body


async def actions(api: httpx.AsyncClient) -> list[str]:
    return [entry["action"] for entry in (await api.get("/audit")).json()["entries"]][::-1]


@pytest.mark.parametrize(("mode", "status"), [("edge", "active"), ("passthrough", "awaiting_cert")])
async def test_an_identity_comes_with_its_tunnel(api: httpx.AsyncClient, mode: str, status: str) -> None:
    body = await made(api, mailbox={}, tunnel={"tls_mode": mode}, description="text")
    tunnel = body["tunnel"]
    assert (body["agent_handle"], body["display_name"], body["description"]) == (
        "my-agent",
        "my-agent",
        "text",
    )
    assert body["email_address"] is body["mailbox"] is body["phone_number"] is None
    assert (tunnel["tunnel_name"], tunnel["tls_mode"], tunnel["status"]) == ("my-agent", mode, status)
    assert tunnel["agent_identity_id"] == body["id"]
    assert (tunnel["public_host"], tunnel["zone"]) == ("my-agent.example.org", "zone.example.org")
    assert (await api.get("/identities/my-agent")).json() == body
    assert (await api.get("/identities/")).json() == [body]
    assert (await api.get(f"/tunnels/{tunnel['id']}")).json() == tunnel
    assert (await api.get("/tunnels/")).json() == {"tunnels": [tunnel]}


async def test_a_tunnel_that_an_older_client_made_is_an_identity_too(api: httpx.AsyncClient) -> None:
    tunnel = (await api.post("/tunnels/", json={"tunnel_name": "my-agent", "description": "d"})).json()[
        "tunnel"
    ]
    identity = (await api.get("/identities/my-agent")).json()
    assert (identity["id"], identity["tunnel"]) == (tunnel["agent_identity_id"], tunnel)
    changed = (await api.patch("/identities/my-agent", json={"description": "other"})).json()
    assert changed["description"] == changed["tunnel"]["description"] == "other"
    assert (await api.get(f"/tunnels/{tunnel['id']}")).json()["description"] == "other"


async def test_an_older_client_may_have_a_secret_for_an_identitys_tunnel(
    store: Store, api: httpx.AsyncClient
) -> None:
    body = await made(api)
    secret = (await api.post(f"/tunnels/{body['id']}/rotate-secret")).json()["connect_secret"]
    assert (await store.directory.admit(body["id"], Secret(secret), "", "")).key_id is None


@pytest.mark.parametrize("handle", ["my-agent", "@my-agent"])
async def test_a_handle_may_be_written_with_an_at_sign(api: httpx.AsyncClient, handle: str) -> None:
    assert (await made(api, handle))["agent_handle"] == "my-agent"
    assert (await api.get(f"/identities/{handle}")).status_code == 200
    assert (await api.delete(f"/identities/{handle}/")).status_code == 204


@pytest.mark.parametrize(
    "field",
    [
        "mailbox",
        "phone_number",
        "vault_secret_ids",
        "imessage_enabled",
        "contact_sharing_enabled",
        "claim_imessage_number",
        "slack_inbound_filter_mode",
    ],
)
async def test_what_concerns_channels_is_taken_for_nothing(api: httpx.AsyncClient, field: str) -> None:
    values: list[object] = [None, {}, True, "*", ["x"]]
    for value in values:
        more: dict[str, Any] = {field: value}
        body = await made(api, **more)
        assert body.get(field) is None
        assert (await api.patch("/identities/my-agent", json={field: value})).json() == body
        await api.delete("/identities/my-agent")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"agent_handle": "My-Agent"}, "only a-z"),
        ({"agent_handle": "@@my-agent"}, "only a-z"),
        ({"agent_handle": "ab"}, "3 to 63"),
        ({"agent_handle": None}, "agent_handle"),
        ({"display_name": ""}, "1 to 255"),
        ({"display_name": "x" * 256}, "1 to 255"),
        ({"description": "x" * 1001}, "1000"),
        ({"tunnel": {"tls_mode": "none"}}, "tls_mode"),
        ({"tunnel": {"tls": "edge"}}, "not a field"),
        ({"tls_mode": "passthrough"}, "not a field"),
    ],
)
async def test_a_refused_field_is_told_the_rule(api: httpx.AsyncClient, change: Body, word: str) -> None:
    answer = await api.post("/identities/", json={"agent_handle": "my-agent", **change})
    assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
    assert (await api.get("/identities/")).json() == []


@pytest.mark.parametrize("handle", ["taken", "acme-corp", "api", "proxy", "8000-cl-1abc", "pending"])
async def test_a_name_is_one_namespace_and_a_taken_handle_is_told_as_clients_look_for_it(
    api: httpx.AsyncClient, handle: str
) -> None:
    await made(api, "taken")
    tunnel = (await api.post("/tunnels/", json={"tunnel_name": "pending"})).json()["tunnel"]
    await api.delete(f"/tunnels/{tunnel['id']}")
    answer = await api.post("/identities/", json={"agent_handle": handle})
    assert answer.status_code == 409
    detail = answer.json()["detail"]
    assert (detail["code"], detail["blocking_namespace"]) == ("agent_handle_unavailable", "tunnels")
    assert handle in detail["message"]
    older = await api.post("/tunnels/", json={"tunnel_name": handle})
    assert (older.status_code, older.json()["detail"]) == (409, detail["message"])


async def test_changes_keep_what_is_absent_and_null_clears(api: httpx.AsyncClient) -> None:
    body = await made(api, display_name="My agent", description="text")
    assert (await api.patch("/identities/my-agent", json={})).json() == body
    named = (await api.patch("/identities/my-agent/", json={"display_name": "Other"})).json()
    assert (named["display_name"], named["description"]) == ("Other", "text")
    cleared = (
        await api.patch("/identities/my-agent", json={"display_name": None, "description": None})
    ).json()
    assert cleared["display_name"] is cleared["description"] is None
    refused = await api.patch("/identities/my-agent", json={"agent_handle": "other"})
    assert refused.status_code == 422, "names do not change"
    assert await actions(api) == [
        "organization.create", "key.create", "identity.create", "identity.update", "identity.update",
    ]  # fmt: skip


async def test_deleting_an_identity_ends_all_that_was_for_it_alone(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    removed: list[TunnelId] = []
    revoked: list[KeyId] = []
    body, other = await made(api), await made(api, "other")
    key = await scoped_key(api, body)
    both = (
        await api.post(
            "/keys", json={"label": "b", "scopes": [f"tunnel:{body['id']}", f"tunnel:{other['id']}"]}
        )
    ).json()
    store.directory.on_removed(removed.append)
    store.directory.on_revoked(revoked.append)
    answer = await api.delete("/identities/my-agent")
    assert (answer.status_code, answer.content) == (204, b"")
    assert removed == [body["id"]] and revoked == [key["record"]["id"]], "its sessions end"
    for path in ("/identities/my-agent", f"/tunnels/{body['id']}"):
        assert (await api.get(path)).status_code == 404
    assert (await api.delete("/identities/my-agent")).status_code == 404
    assert (await api.post(f"/tunnels/{body['id']}/restore")).status_code == 404
    assert [each["agent_handle"] for each in (await api.get("/identities/")).json()] == ["other"]
    assert (await api.get(f"/keys/{key['record']['id']}")).json()["status"] == "revoked"
    assert (await api.get(f"/keys/{both['record']['id']}")).json()["status"] == "active"
    with pytest.raises(SecretRejected) as nobodys:
        await store.directory.admit(body["id"], Secret(key["api_key"]), "", "")
    assert not isinstance(nobodys.value, TunnelForbidden)
    with pytest.raises(TunnelForbidden):
        await store.directory.admit(body["id"], Secret(both["api_key"]), "", "")
    assert (await actions(api))[-2:] == ["identity.delete", "key.revoke"]
    assert (await made(api))["id"] != body["id"], "the handle is free"


async def test_a_restart_knows_what_a_deleted_identity_took_with_it(file: Any) -> None:
    store = await Store.open(file)
    organization, _ = await store.create_organization("ours")
    row, _ = await store.identities.create(organization, "my-agent", TlsMode.EDGE)
    scope = access.Scope(access.ScopeKind.TUNNEL, row.id)
    _, key = await store.keys.create(organization, [scope])
    await store.identities.delete(organization, "my-agent")
    await store.close()
    store = await Store.open(file)
    assert store.directory.key(key) is None and store.directory.tunnel("my-agent") is None
    assert await store.tunnels(organization) == []
    await store.close()


@pytest.mark.parametrize("way", ["force", "time"])
async def test_keys_end_with_their_tunnel_whichever_way_it_ends(
    store: Store, api: httpx.AsyncClient, clock: Clock, way: str
) -> None:
    body = await made(api)
    key = Secret((await scoped_key(api, body))["api_key"])
    pending = (await api.delete(f"/tunnels/{body['id']}")).json()
    assert pending["status"] == "delete_pending" and pending["restore_deadline_at"]
    assert (await api.get("/identities/my-agent")).json()["tunnel"] == pending
    with pytest.raises(TunnelRemoved):
        await store.directory.admit(body["id"], key, "", "")
    await api.post(f"/tunnels/{body['id']}/restore")
    assert (await store.directory.admit(body["id"], key, "", "")).tunnel.id == body["id"]
    await api.delete(f"/tunnels/{body['id']}")
    if way == "force":
        assert (await api.delete(f"/tunnels/{body['id']}/force")).json()["status"] == "deleted"
    else:
        clock.pass_by(RESTORE_GRACE + timedelta(hours=1))
        for now in (0.0, SIGHTING_SECONDS):
            await store.ending.release_overdue(now)
    assert store.directory.key(key) is None
    assert (await api.get("/identities/my-agent")).status_code == 404


async def test_an_identity_whose_tunnel_is_pending_removal_can_be_ended(api: httpx.AsyncClient) -> None:
    body = await made(api)
    await api.delete(f"/tunnels/{body['id']}")
    assert (await api.delete("/identities/my-agent")).status_code == 204
    await made(api)


async def test_a_key_of_an_identity_sees_that_one_and_changes_nothing(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    body, other = await made(api), await made(api, "other")
    key = await scoped_key(api, body)
    stranger.headers["X-API-Key"] = key["api_key"]
    v1 = "/api/v1"
    assert (await stranger.get(f"{v1}/identities/")).json() == [body]
    assert (await stranger.get(f"{v1}/tunnels/")).json() == {"tunnels": [body["tunnel"]]}
    assert (await stranger.get(f"{v1}/identities/my-agent")).json() == body
    assert (await stranger.get(f"{v1}/identities/other")).status_code == 404
    assert (await stranger.get(f"{v1}/tunnels/{other['id']}")).status_code == 404
    for method, path, change, status in (
        ("PATCH", "/identities/my-agent", {"display_name": "x"}, 403),
        ("DELETE", "/identities/my-agent", None, 403),
        ("DELETE", "/identities/other", None, 404),
        ("POST", "/identities", {"agent_handle": "third"}, 403),
        ("POST", "/api-keys", {"label": "x", "scoped_identity_id": body["id"]}, 403),
    ):
        assert (await stranger.request(method, v1 + path, json=change)).status_code == status, path
    who = (await stranger.get("/api/whoami")).json()
    assert who["auth_subtype"] == "api_key.agent_scoped.claimed"
    assert who["scoped_identity_id"] == body["id"]


# Keys, as the newer clients make them


async def test_a_key_for_an_identity_is_told_with_every_field_that_clients_read(
    store: Store, api: httpx.AsyncClient, admin: Secret
) -> None:
    body = await made(api)
    key = await scoped_key(api, body, description="the agent's own")
    record = store.directory.key(admin)
    assert record is not None
    kept = key["record"]
    assert (kept["label"], kept["description"]) == ("agent", "the agent's own")
    assert (kept["scoped_identity_id"], kept["scopes"]) == (body["id"], [f"tunnel:{body['id']}"])
    assert (kept["created_by"], kept["creator_type"], kept["status"]) == (record.id, "human", "active")
    assert kept["created_at"] == kept["updated_at"] and kept["last4"] == key["api_key"][-4:]
    assert (await api.get(f"/keys/{kept['id']}")).json() == kept
    revoked = (await api.delete(f"/keys/{kept['id']}")).json()
    assert revoked["updated_at"] == revoked["revoked_at"] is not None
    first = (await api.get("/keys")).json()["keys"][0]
    assert (first["created_by"], first["scoped_identity_id"]) == ("server", None)


@pytest.mark.parametrize(
    ("path", "change", "status", "word"),
    [
        ("/api-keys", {}, 403, "scoped_identity_id"),
        ("/api-keys", {"scoped_identity_id": None}, 403, "scoped_identity_id"),
        ("/api-keys", {"scopes": ["admin"]}, 403, "scoped_identity_id"),
        ("/api-keys", {"scopes": ["tunnel:a", "tunnel:b"]}, 403, "scoped_identity_id"),
        ("/keys", {}, 422, "scopes is missing"),
        (
            "/api-keys",
            {"scoped_identity_id": "0b0c6d0e-0000-4000-8000-000000000000"},
            404,
            "no such identity",
        ),
        ("/api-keys", {"scoped_identity_id": "x", "scopes": ["admin"]}, 422, "exclude"),
        ("/api-keys", {"scopes": []}, 422, "1 to 100"),
        ("/api-keys", {"scopes": ["admin"], "label": ""}, 422, "label"),
        ("/api-keys", {"scopes": ["admin"], "description": "x" * 1001}, 422, "1000"),
    ],
)
async def test_a_key_is_for_what_is_said_and_for_nothing_by_default(
    api: httpx.AsyncClient, path: str, change: Body, status: int, word: str
) -> None:
    answer = await api.post(path, json={"label": "x", **change})
    assert answer.status_code == status and word in answer.json()["detail"], answer.text


@pytest.mark.parametrize("path", ["/keys", "/api-keys", "/api-keys/"])
async def test_both_paths_take_both_shapes(api: httpx.AsyncClient, path: str) -> None:
    body = await made(api)
    for wanted in ({"scopes": [f"tunnel:{body['id']}"]}, {"scoped_identity_id": body["id"]}):
        answer = await api.post(path, json={"label": "x", **wanted})
        assert answer.status_code == 201, answer.text


async def test_another_organizations_identity_is_none(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    theirs, key = await store.create_organization("theirs")
    row, _ = await store.identities.create(theirs, "my-agent", TlsMode.EDGE)
    for method in ("GET", "PATCH", "DELETE"):
        answer = await api.request(method, "/identities/my-agent", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()) == (404, {"detail": "no such identity"})
    answer = await api.post("/api-keys", json={"label": "x", "scoped_identity_id": row.id})
    assert answer.status_code == 404
    _, ours = await store.keys.create(organization, [access.ADMIN])
    with pytest.raises(TunnelForbidden):
        await store.directory.admit(row.id, ours, "", "")
    assert (await store.directory.admit(row.id, key, "", "")).tunnel.id == row.id


# Lists, limits, repeats


async def test_a_list_says_of_each_identity_what_its_record_says(
    store: Store, organization: OrganizationId
) -> None:
    await store.create_tunnel(organization, "older", TlsMode.EDGE, 'said "so"\n')
    await store.identities.create(organization, "odd", TlsMode.PASSTHROUGH, 'My "agent" ü', "\u2028")
    records = [identity_record(row, store, PUBLIC) for row in await store.tunnels(organization)]
    text = await Listing(store.directory, PUBLIC).identities(
        store.each_listed(organization, Filter()), None, paged=False
    )
    adapter = TypeAdapter(list[Identity])
    assert text == adapter.dump_json(records) or json.loads(text) == adapter.dump_python(records, mode="json")
    assert adapter.validate_json(text) == records


async def test_identities_come_all_at_once_or_in_pages(api: httpx.AsyncClient) -> None:
    every = [await made(api, f"agent-{number}") for number in range(5)]
    assert (await api.get("/identities")).json() == every
    seen: list[Body] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        page = (await api.get("/identities", params=params)).json()
        seen += page["identities"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        rest = (await api.get("/identities", params={"cursor": cursor})).json()
        assert (seen + rest["identities"], rest["next_cursor"]) == (every, None)
    assert seen == every


async def test_a_create_is_repeated_under_its_idempotency_key(api: httpx.AsyncClient) -> None:
    async def ask(path: str = "/identities", **body: object) -> httpx.Response:
        return await api.post(path, json=body, headers={"Idempotency-Key": "once"})

    first = await ask(agent_handle="my-agent")
    again = await ask(agent_handle="my-agent")
    assert again.status_code == 201 and again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first.headers
    other = await ask(agent_handle="other")
    older = await ask("/tunnels", tunnel_name="my-agent")
    for refused in (other, older):
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "this Idempotency-Key was used for another request",
        )
    await api.delete("/identities/my-agent")
    assert "is deleted" in (await ask(agent_handle="my-agent")).json()["detail"]


async def test_identities_count_as_tunnels(store: Store, organization: OrganizationId) -> None:
    await store.create_tunnel(organization, "older", TlsMode.EDGE)
    with pytest.raises(RateLimited):
        await store.identities.create(organization, "one-more", TlsMode.EDGE, terms=Terms(most=1))
