"""The endpoints of others' test suites: absent by default, and for the holder of one secret alone."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.records import OrganizationId, TlsMode
from wellhead.settings import ServerSettings

SECRET = "between services, and long enough"
MAKE, CLEAN = (f"/api/v1/testing/{verb}-test-user-organization" for verb in ("create", "cleanup"))


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> ServerSettings:
    on = getattr(request, "param", True)
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    return ServerSettings(testing_secret_sha256=digest if on else None)


@pytest.fixture
def suite(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    stranger.headers["X-Interservice-Secret"] = SECRET
    return stranger


async def account(suite: httpx.AsyncClient) -> dict[str, Any]:
    answer = await suite.post(MAKE, json={"create_api_key": True})
    assert answer.status_code == 200, answer.text
    (made,) = answer.json()["accounts"]
    assert made.keys() == {"email_address", "password", "user_id", "org_id", "api_key"}
    return dict(made)


async def test_an_account_has_an_organization_of_its_own(suite: httpx.AsyncClient, store: Store) -> None:
    made = await account(suite)
    headers = {"X-API-Key": made["api_key"]}
    who = (await suite.get("/api/whoami", headers=headers)).json()
    assert (who["organization_id"], who["auth_subtype"]) == (made["org_id"], "api_key.admin_scoped")
    assert (await account(suite))["org_id"] != made["org_id"]
    answer = await suite.post(MAKE, json={"create_api_key": False})
    assert answer.json()["accounts"][0]["api_key"] is None


async def test_cleaning_up_ends_tunnels_and_keys_of_those_accounts_and_of_no_other(
    suite: httpx.AsyncClient, store: Store, organization: OrganizationId, admin: Secret
) -> None:
    mine, other = await account(suite), await account(suite)
    kept, _ = await store.create_tunnel(organization, "kept", TlsMode.EDGE)
    for number in range(3):
        await suite.post(
            "/api/v1/identities",
            json={"agent_handle": f"agent-{number}"},
            headers={"X-API-Key": mine["api_key"]},
        )
    old = {key: mine[key] for key in ("user_id", "org_id")}
    foreign = {"user_id": mine["user_id"], "org_id": organization}
    mixed = {"user_id": mine["user_id"], "org_id": other["org_id"]}
    body = {"accounts": [old | {"created_provisional_org_ids": []}, foreign, mixed]}
    answer = await suite.post(CLEAN, json=body)
    assert (answer.status_code, answer.json()) == (200, {"organizations": 1})
    assert (await suite.get("/api/whoami", headers={"X-API-Key": mine["api_key"]})).status_code == 401
    assert (await suite.get("/api/whoami", headers={"X-API-Key": other["api_key"]})).status_code == 200
    assert store.directory.tunnel("agent-0") is None and store.directory.tunnel("kept") is not None
    assert store.directory.key(admin) is not None
    assert (await suite.post(CLEAN, json=body)).json() == {"organizations": 1}, "twice is as once"


@pytest.mark.parametrize("headers", [{}, {"X-Interservice-Secret": "other"}, {"X-Interservice-Secret": ""}])
@pytest.mark.parametrize("path", [MAKE, CLEAN])
async def test_without_the_secret_nothing_is_said_not_even_of_the_body(
    stranger: httpx.AsyncClient, admin: Secret, headers: dict[str, str], path: str
) -> None:
    answer = await stranger.post(path, content=b"{not json", headers={"X-API-Key": admin.reveal()} | headers)
    assert answer.status_code == 401


async def test_the_secret_opens_nothing_else(suite: httpx.AsyncClient) -> None:
    assert (await suite.get("/api/v1/tunnels")).status_code == 401
    assert (await suite.get("/api/v1/testing-more")).status_code == 401
    assert (await suite.get("/api/v1/testing/other")).status_code == 404


@pytest.mark.parametrize("settings", [False], indirect=True)
async def test_without_the_setting_there_are_no_such_endpoints(
    suite: httpx.AsyncClient, admin: Secret
) -> None:
    assert (await suite.post(MAKE, json={})).status_code == 401
    assert (await suite.post(MAKE, json={}, headers={"X-API-Key": admin.reveal()})).status_code == 404
    assert "testing" not in (await suite.get("/api/openapi.json")).text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((text, "64 hexadecimal digits") for text in ("secret", "a" * 63, "g" * 64)),
        (hashlib.sha256(b"").hexdigest().upper(), "SHA-256 of nothing"),
    ],
)
def test_what_is_no_digest_of_a_secret_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ServerSettings(testing_secret_sha256=text)
