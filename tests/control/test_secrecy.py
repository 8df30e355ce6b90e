"""Canaries: secrets put into every input show up in no log line, at any level, and in no answer."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.control import LINKS_KEY
from tests.kit.fake_hosts import FakeHost
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.logs import LineFormatter
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.links import LinkSigner
from wellhead.model.records import OrganizationId, TlsMode
from wellhead.model.sandbox_records import PortLink
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.model.snapshot import utc_now


@pytest.fixture
def everything() -> Iterator[io.StringIO]:
    """What all loggers, libraries' too, write at DEBUG."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(LineFormatter())
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def halves(secret: Secret) -> list[str]:
    """The whole, and pieces of the secret half that are long enough to be no chance."""
    body = secret.reveal().partition("_")[2][8:-6]
    return [secret.reveal(), body[:10], body[-10:]]


async def test_secrets_in_wrong_places_are_neither_logged_nor_answered(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, everything: io.StringIO
) -> None:
    canary = access.mint(access.API_KEY)
    text = canary.reveal()
    answers = [
        await stranger.get("/api/v1/tunnels/", headers={"X-API-Key": text}),
        await stranger.get("/api/v1/tunnels/", headers={"Authorization": f"Bearer {text}"}),
        await stranger.get(f"/{text}", headers={text: text}),
        await api.get(f"/tunnels/{text}"),
        await api.get("/tunnels/", params={"name": text}),
        await api.get(f"/{text}", params={text: text}),
        await api.request("PUT", f"/tunnels/{text}"),
        await api.post("/tunnels/", content=text, headers={"Content-Type": "application/json"}),
        await api.post("/tunnels/", content=text, headers={"Content-Type": text}),
        await api.post("/tunnels/", json={"tunnel_name": text}),
        await api.post("/tunnels/", json={"tunnel_name": "x" * 30 + text}),
        await api.post("/tunnels/", json={"tunnel_name": "abc", "tls_mode": text}),
        await api.post("/tunnels/", json={"tunnel_name": "abc", text: 1}),
        await api.post("/tunnels/", json={"tunnel_name": "abc", "description": [text]}),
        await api.post("/tunnels/", json={"tunnel_name": "abc", "metadata": text}),
        await api.post("/tunnels/", json={"tunnel_name": "abc"}, headers={"Idempotency-Key": text}),
        await api.post("/tunnels/", json={"tunnel_name": "other"}, headers={"Idempotency-Key": text}),
        await api.get("/tunnels/", params={"status": text}),
        await api.get("/tunnels/", params={"connected": text}),
        await api.get("/tunnels/", params={"limit": text}),
        await api.get("/tunnels/", params={"limit": 1, "cursor": text}),
        await api.get("/audit", params={"cursor": text}),
        await api.get("/audit", params={"action": text[:60], "target_id": text[:60]}),
        await api.get(f"/identities/{text}"),
        await api.delete(f"/identities/{text}"),
        await api.patch(f"/identities/{text}", json={"display_name": text}),
        await api.post("/identities", json={"agent_handle": text}),
        await api.post("/identities", json={"agent_handle": "abc", "tunnel": {"tls_mode": text}}),
        await api.post("/identities", json={"agent_handle": "abc", text: text}),
        await api.post("/identities", json={"agent_handle": "abc"}, headers={"Idempotency-Key": text}),
        await api.get("/identities", params={"cursor": text}),
        await api.post("/api-keys", json={"label": "x", "scoped_identity_id": text}),
        await stranger.post(
            "/api/v1/testing/create-test-user-organization", headers={"X-Interservice-Secret": text}
        ),
        await api.get(f"/keys/{text}"),
        await api.delete(f"/keys/{text}"),
        await api.post("/keys", json={"label": "x", "scopes": [text]}),
        await api.post("/keys", json={"label": "x", "scopes": [f"tunnel:{text}"]}),
        await api.post("/keys", json={"label": "x", "scopes": ["admin"], "expires_at": text}),
        await api.post("/keys", json={"label": "x" * 300 + text, "scopes": ["admin"]}),
        await api.post("/sandboxes", json={"visibility": text}),
        await api.post("/sandboxes", json={"port_visibility": {text: "public"}}),
        await api.post("/sandboxes", json={"port_visibility": {"80": text}}),
        await api.patch(f"/sandboxes/{text}", json={"auto_resume": text}),
        await api.post(f"/sandboxes/{text}/links", json={}),
        await api.post(f"/sandboxes/{new_sandbox_id()}/links", json={"port": text}),
        await api.post(f"/sandboxes/{new_sandbox_id()}/links", json={"expires_in": 60, text: text}),
        await api.delete(f"/sandboxes/{new_sandbox_id()}/links", params={"wellhead_link": text}),
        await api.delete(f"/tunnels/{text}/force"),
        await api.post(f"/tunnels/{text}/rotate-secret", params={"hard": text}),
    ]
    assert {answer.status_code for answer in answers} >= {401, 404, 405, 415, 422}
    for piece in halves(canary):
        assert piece not in everything.getvalue().replace("\\", "")
        for answer in answers:
            assert piece not in answer.text + str(answer.headers)


async def test_issued_secrets_are_not_logged_whatever_is_done_with_them(
    store: Store,
    api: httpx.AsyncClient,
    admin: Secret,
    organization: OrganizationId,
    everything: io.StringIO,
) -> None:
    _, key = await store.create_key(organization, [access.ADMIN])
    _, other = await store.create_organization("theirs")
    made = await api.post("/tunnels/", json={"tunnel_name": "my-agent"})
    path = f"/tunnels/{made.json()['tunnel']['id']}"
    secret = Secret((await api.post(f"{path}/rotate-secret?hard=true")).json()["connect_secret"])
    ask = {"json": {"tunnel_name": "other"}, "headers": {"Idempotency-Key": "same"}}
    more = [(await api.post("/tunnels/", **ask)).json()["connect_secret"] for _ in range(2)]  # type: ignore[arg-type]
    body = (await api.post("/keys", json={"label": "ci", "scopes": ["admin"]})).json()
    more += [body["api_key"], made.json()["connect_secret"]]
    await api.delete(f"/keys/{body['record']['id']}")
    for given in (admin, key, secret):
        await store.directory.admit("my-agent", given, "192.0.2.7", "test")
    with pytest.raises(Exception) as caught:  # whatever is raised
        await store.directory.admit("my-agent", other, "192.0.2.7", "test")
    with pytest.raises(Exception) as conflict:
        await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    assert "tunnel created" in everything.getvalue() and "aiosqlite" in everything.getvalue()
    shown = everything.getvalue()
    for error in (caught.value, conflict.value, conflict.value.__cause__):
        shown += f"{error!r} {error}"
    shown += (await api.get("/audit")).text + (await api.get("/keys")).text
    for issued in (admin, key, other, secret, *map(Secret, more)):
        for piece in halves(issued):
            assert piece not in shown


async def test_links_to_ports_and_the_key_that_signs_them_are_shown_to_nobody_but_who_asks(
    api: httpx.AsyncClient,
    host: FakeHost,
    fleet: Fleet,
    organization: OrganizationId,
    everything: io.StringIO,
) -> None:
    stream = fleet.hub.stream(organization)
    sandbox = (await api.post("/sandboxes", json={})).json()["id"]
    asked: list[dict[str, object]] = [{}, {"port": 3000}, {"port": 1, "expires_in": 60}]
    urls = [(await api.post(f"/sandboxes/{sandbox}/links", json=body)).json()["url"] for body in asked]
    await api.delete(f"/sandboxes/{sandbox}/links")
    await api.delete(f"/sandboxes/{sandbox}")
    fleet.hub.close()
    shown = everything.getvalue() + b"".join([frame async for frame in stream]).decode()
    shown += (await api.get("/audit")).text + (await api.get(f"/sandboxes/{sandbox}")).text
    assert "sandbox.link" in shown and sandbox in shown
    for url in urls:
        token = url.partition("wellhead_link=")[2]
        assert len(token) > 30
        for piece in (token, token[:20], token[-20:]):
            assert piece not in shown
    assert LINKS_KEY.hex() not in shown and repr(LINKS_KEY) not in shown
    assert LINKS_KEY.hex() not in repr(LinkSigner(LINKS_KEY)) and urls[0] not in repr(
        PortLink(urls[0], utc_now())
    )
