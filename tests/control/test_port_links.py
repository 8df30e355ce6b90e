from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import LINKS_KEY, built, caller
from tests.kit.fake_hosts import FakeHost
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.errors import SettingsError
from wellhead.model.access import Secret
from wellhead.model.links import PARAMETER, LinkSigner, Pass
from wellhead.model.ports import read_port_label
from wellhead.model.sandboxes import SandboxId
from wellhead.settings import ServerSettings

signer = LinkSigner(LINKS_KEY)


@pytest.fixture
async def sandbox(api: httpx.AsyncClient, host: FakeHost) -> SandboxId:
    return SandboxId((await api.post("/sandboxes", json={})).json()["id"])


async def made(api: httpx.AsyncClient, sandbox: str, **asked: object) -> dict[str, Any]:
    answer = await api.post(f"/sandboxes/{sandbox}/links", json=asked)
    assert answer.status_code == 201, answer.text
    link: dict[str, Any] = answer.json()
    return link


def token_of(link: dict[str, Any]) -> str:
    (token,) = parse_qs(urlsplit(str(link["url"])).query)[PARAMETER]
    return token


def epoch(store: Store, sandbox: SandboxId) -> int:
    view = store.directory.sandbox(sandbox)
    assert view is not None
    return view.access.links_epoch


async def test_a_link_names_the_port_and_is_signed_for_it_alone(
    api: httpx.AsyncClient, sandbox: SandboxId, clock: Clock
) -> None:
    link = await made(api, sandbox, port=3000, expires_in=600)
    assert link["port"] == 3000
    where = urlsplit(link["url"])
    label, _, domain = str(where.hostname).partition(".")
    assert (where.scheme, domain, where.port, where.path) == ("https", "example.org", 8443, "/")
    assert read_port_label(label) == (3000, sandbox)
    now, expires = clock().timestamp(), datetime.fromisoformat(link["expires_at"]).timestamp()
    assert expires == pytest.approx(now + 600, abs=30)
    token = token_of(link)
    assert signer.expiry(token, Pass.LINK, sandbox, 3000, 0, now) == (int(expires), 3000)
    assert signer.expiry(token, Pass.LINK, sandbox, 3001, 0, now) is None
    assert signer.expiry(token, Pass.COOKIE, sandbox, 3000, 0, now) is None
    assert signer.expiry(token, Pass.LINK, sandbox, 3000, 0, expires) is None


async def test_a_link_without_a_port_is_for_all_of_them(
    api: httpx.AsyncClient, sandbox: SandboxId, clock: Clock
) -> None:
    for asked in ({}, {"port": None, "expires_in": None}):
        link = await made(api, sandbox, **asked)
        assert link["port"] is None
        assert link["url"].startswith(f"https://{{port}}-{sandbox}.example.org:8443/?{PARAMETER}=")
        until = datetime.fromisoformat(link["expires_at"]) - clock()
        assert until == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=30)), "the setting's"
        found = signer.expiry(token_of(link), Pass.LINK, sandbox, 65535, 0, clock().timestamp())
        assert found is not None and found[1] == 0


async def test_revoking_voids_what_there_is_and_nothing_that_is_made_later(
    api: httpx.AsyncClient, sandbox: SandboxId, clock: Clock, store: Store
) -> None:
    async def good(link: dict[str, Any]) -> bool:
        args = (Pass.LINK, sandbox, 3000, epoch(store, sandbox), clock().timestamp())
        return signer.expiry(token_of(link), *args) is not None

    old = await made(api, sandbox, port=3000)
    assert await good(old)
    answer = await api.delete(f"/sandboxes/{sandbox}/links")
    assert (answer.status_code, answer.content) == (204, b"") and not await good(old)
    new = await made(api, sandbox, port=3000)
    assert await good(new)
    assert (await api.delete(f"/sandboxes/{sandbox}/links")).status_code == 204
    assert not await good(new) and not await good(old)


async def test_what_was_revoked_stays_void_whatever_is_changed(
    api: httpx.AsyncClient, sandbox: SandboxId, store: Store
) -> None:
    await api.delete(f"/sandboxes/{sandbox}/links")
    await api.post(f"/sandboxes/{sandbox}/pause")
    await api.patch(f"/sandboxes/{sandbox}", json={"visibility": "team"})
    assert epoch(store, sandbox) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"port": 0}, '"port" "0"'),
        ({"port": 65536}, '"port" "65536"'),
        ({"port": "3000"}, '"3000" is not a whole number'),
        ({"port": True}, '"True" is not a whole number'),
        ({"expires_in": 0}, '"expires_in" "0"'),
        ({"expires_in": -1}, '"expires_in" "-1"'),
        ({"expires_in": 2592001}, "expires_in 2592001: at most 2592000 allowed by sandbox_link_max_seconds"),
        ({"token": "x"}, '"token" is not a field'),
    ],
)
async def test_what_is_out_of_bounds_is_refused_with_the_value_and_the_bound(
    api: httpx.AsyncClient, sandbox: SandboxId, asked: dict[str, object], said: str
) -> None:
    answer = await api.post(f"/sandboxes/{sandbox}/links", json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid_request") and said in error["message"]


async def test_there_is_no_link_to_a_port_that_nobody_reaches(
    api: httpx.AsyncClient, sandbox: SandboxId
) -> None:
    answer = await api.post(f"/sandboxes/{sandbox}/links", json={"port": 49983})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "49983" in answer.text and PARAMETER not in answer.text


async def test_who_may_see_a_port_that_nobody_reaches_is_not_to_be_said(
    api: httpx.AsyncClient, sandbox: SandboxId
) -> None:
    answer = await api.patch(f"/sandboxes/{sandbox}", json={"port_visibility": {"49983": "team"}})
    assert answer.status_code == 422 and "port_visibility 49983" in answer.text
    answer = await api.post("/sandboxes", json={"port_visibility": {"49983": "team"}})
    assert answer.status_code == 422
    answer = await api.patch(f"/sandboxes/{sandbox}", json={"port_visibility": {"49983": None}})
    assert answer.status_code == 200


async def test_a_sandbox_that_is_over_has_no_links(api: httpx.AsyncClient, sandbox: SandboxId) -> None:
    await api.delete(f"/sandboxes/{sandbox}")
    for answer in (
        await api.post(f"/sandboxes/{sandbox}/links", json={}),
        await api.delete(f"/sandboxes/{sandbox}/links"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")


async def test_links_are_made_under_every_name_of_the_routes_and_kept_in_no_cache(
    api: httpx.AsyncClient, sandbox: SandboxId
) -> None:
    for base in ("api/v1/capsules", "legacy/api/v1/capsules", "legacy/api/v1/sandboxes"):
        path = f"http://control/{base}/{sandbox}/links"
        answer = await api.post(path, json={"port": 80})
        assert answer.status_code == 201 and answer.headers.get_list("Cache-Control") == ["no-store"]
        assert (await api.delete(path)).status_code == 204


async def test_the_audit_says_who_made_and_who_voided_links_and_shows_none(
    api: httpx.AsyncClient, sandbox: SandboxId
) -> None:
    link = await made(api, sandbox, port=3000)
    await made(api, sandbox)
    await api.delete(f"/sandboxes/{sandbox}/links")
    answer = await api.get("/audit", params={"target_id": sandbox})
    entries = answer.json()["entries"]
    assert [entry["action"] for entry in entries[:3]] == [
        "sandbox.links_revoke",
        "sandbox.link",
        "sandbox.link",
    ]
    assert entries[2]["after"] == {"port": 3000, "expires_at": entries[2]["after"]["expires_at"]}
    assert entries[1]["after"]["port"] is None and all(entry["key_last4"] for entry in entries[:3])
    assert token_of(link) not in answer.text


async def test_settings_say_how_long_links_are_good(
    store: Store, fleet: Fleet, admin: Secret, sandbox: SandboxId, clock: Clock
) -> None:
    settings = ServerSettings(sandbox_link_seconds=60, sandbox_link_max_seconds=120)
    async with caller(built(store, PUBLIC, settings, fleet=fleet), admin) as api:
        until = datetime.fromisoformat((await made(api, sandbox))["expires_at"]) - clock()
        assert until == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=30))
        await made(api, sandbox, expires_in=120)
        refused = await api.post(f"/sandboxes/{sandbox}/links", json={"expires_in": 121})
        assert refused.status_code == 422


def test_a_default_that_is_longer_than_may_be_is_no_setting() -> None:
    said = "sandbox_link_seconds: 61 is more than sandbox_link_max_seconds, 60"
    with pytest.raises(SettingsError, match=re.escape(said)):
        ServerSettings.load(overrides={"sandbox_link_seconds": 61, "sandbox_link_max_seconds": 60})
