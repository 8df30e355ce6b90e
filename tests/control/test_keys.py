"""API keys over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.control.conftest import Clock
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.records import KeyId


async def made(api: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await api.post("/keys", json={"label": "ci", "scopes": ["admin"], **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def headers(body: dict[str, Any]) -> dict[str, str]:
    return {"X-API-Key": body["api_key"]}


async def test_a_new_key_works_at_once_and_is_shown_once(api: httpx.AsyncClient) -> None:
    body = await made(api)
    record = body["record"]
    assert body["api_key"].startswith(record["display_prefix"]) and body["api_key"].endswith(record["last4"])
    assert (record["label"], record["scopes"], record["status"]) == ("ci", ["admin"], "active")
    assert record["expires_at"] is None and record["revoked_at"] is None
    assert (await api.get("/tunnels/", headers=headers(body))).status_code == 200
    for answer in (await api.get("/keys"), await api.get(f"/keys/{record['id']}"), await api.get("/audit")):
        assert answer.status_code == 200 and body["api_key"] not in answer.text
    assert [key["label"] for key in (await api.get("/keys/")).json()["keys"]] == ["first key", "ci"]


async def test_a_key_is_told_what_it_is(api: httpx.AsyncClient) -> None:
    body = await made(api, expires_at="2030-01-01T00:00:00Z")
    for path in ("http://control/api/whoami", "http://control/api/whoami/"):
        said = (await api.get(path, headers=headers(body))).json()
        record = body["record"]
        assert (said["auth_type"], said["auth_subtype"]) == ("api_key", "api_key.admin_scoped")
        assert (said["key_id"], said["label"], said["scopes"]) == (record["id"], "ci", ["admin"])
        assert said["organization_id"] == record["organization_id"]
        assert said["expires_at"] == 1893456000.0 and said["last_used_at"] >= said["created_at"]
    tunnel = (await api.post("/tunnels/", json={"tunnel_name": "my-agent"})).json()["tunnel"]
    scoped = await made(api, scopes=[f"tunnel:{tunnel['id']}"])
    said = (await api.get("http://control/api/whoami", headers=headers(scoped))).json()
    assert (said["auth_subtype"], said["expires_at"]) == ("api_key.agent_scoped.claimed", None)


async def test_a_revoked_key_is_nobodys_and_stays_to_be_seen(api: httpx.AsyncClient) -> None:
    body = await made(api)
    for _ in range(2):
        answer = await api.delete(f"/keys/{body['record']['id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    assert (await api.get("/tunnels/", headers=headers(body))).status_code == 401
    assert [key["status"] for key in (await api.get("/keys")).json()["keys"]] == ["active", "revoked"]


async def test_the_last_key_that_may_administer_stays(api: httpx.AsyncClient, clock: Clock) -> None:
    first = (await api.get("/keys")).json()["keys"][0]["id"]
    until = (clock() + timedelta(days=1)).isoformat()
    await made(api, expires_at=until)  # one that will be over is no way back in
    assert (await api.delete(f"/keys/{first}")).status_code == 409
    second = await made(api)
    assert (await api.delete(f"/keys/{first}")).status_code == 200
    assert (await api.get("/keys")).status_code == 401
    assert (await api.get("/keys", headers=headers(second))).status_code == 200


async def test_a_key_works_until_it_expires_and_those_who_live_by_it_are_told(
    store: Store, api: httpx.AsyncClient, clock: Clock
) -> None:
    told: list[KeyId] = []
    store.directory.on_revoked(told.append)
    body = await made(api, expires_at=(clock() + timedelta(hours=1)).isoformat())
    assert (await api.get("/keys", headers=headers(body))).status_code == 200
    store.directory.expire()
    assert told == []
    clock.ahead = timedelta(hours=1)
    assert (await api.get("/keys", headers=headers(body))).status_code == 401
    assert (await api.get(f"/keys/{body['record']['id']}")).json()["status"] == "expired"
    store.directory.expire()
    store.directory.expire()
    assert told == [body["record"]["id"]]


async def test_revoking_tells_those_who_live_by_the_key_once(store: Store, api: httpx.AsyncClient) -> None:
    told: list[KeyId] = []
    store.directory.on_revoked(told.append)
    body = await made(api)
    for _ in range(2):
        await api.delete(f"/keys/{body['record']['id']}")
    assert told == [body["record"]["id"]]


async def test_a_scope_reaches_a_tunnel_of_its_own_organization_alone(
    store: Store, api: httpx.AsyncClient
) -> None:
    tunnel = (await api.post("/tunnels/", json={"tunnel_name": "my-agent"})).json()["tunnel"]["id"]
    body = await made(api, scopes=[f"tunnel:{tunnel}", f"tunnel:{tunnel}"])
    assert body["record"]["scopes"] == [f"tunnel:{tunnel}"]
    admission = await store.directory.admit("my-agent", Secret(body["api_key"]), "", "")
    assert admission.key_id == body["record"]["id"]
    _, theirs = await store.create_organization("theirs")
    answer = await api.post(
        "/keys",
        json={"label": "x", "scopes": [f"tunnel:{tunnel}"]},
        headers={"X-API-Key": theirs.reveal()},
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"label": ""}, 422),
        ({"label": "x" * 256}, 422),
        ({"label": None}, 422),
        ({"scopes": []}, 422),
        ({"scopes": "admin"}, 422),
        ({"scopes": ["root"]}, 422),
        ({"scopes": ["tunnel:"]}, 422),
        ({"scopes": ["admin"] * 101}, 422),
        ({"scopes": ["tunnel:nonsense"]}, 404),
        ({"expires_at": "tomorrow"}, 422),
        ({"expires_at": 2000000000}, 422),
        ({"expires_at": "2030-01-01T00:00:00"}, 422),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, 422),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 409),
        ({"id": "x"}, 422),
        ({"revoked_at": None}, 422),
    ],
)
async def test_a_refused_field_is_told_the_rule(
    api: httpx.AsyncClient, change: dict[str, object], status: int
) -> None:
    answer = await api.post("/keys", json={"label": "ci", "scopes": ["admin"], **change})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"].isprintable() and len(answer.json()["detail"]) < 300
    assert len((await api.get("/keys")).json()["keys"]) == 1


async def test_keys_come_in_pages(api: httpx.AsyncClient) -> None:
    for number in range(4):
        await made(api, label=f"key {number}")
    labels, cursor = [], ""
    while True:
        answer = (await api.get("/keys", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        labels += [key["label"] for key in answer["keys"]]
        if (cursor := answer["next_cursor"]) is None:
            break
    assert labels == ["first key", "key 0", "key 1", "key 2", "key 3"]
