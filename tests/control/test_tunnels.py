"""The routes, asked over HTTP as a client would."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from wellhead.control.store import Store
from wellhead.model.access import Scope, ScopeKind
from wellhead.model.records import OrganizationId, TunnelId

ID = "0b0c6d0e-0000-4000-8000-000000000000"  # what a tunnel's id looks like


async def created(api: httpx.AsyncClient, name: str = "my-agent", **fields: object) -> dict[str, Any]:
    answer = await api.post("/tunnels/", json={"tunnel_name": name, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
async def scoped(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> tuple[str, str, dict[str, str]]:
    """Two tunnels' ids, and headers with a key for the first."""
    first, second = await created(api, "first"), await created(api, "second")
    _, key = await store.create_key(organization, [Scope(ScopeKind.TUNNEL, first["tunnel"]["id"])])
    return first["tunnel"]["id"], second["tunnel"]["id"], {"X-API-Key": key.reveal()}


async def test_a_new_tunnel_has_every_field_of_every_generation(api: httpx.AsyncClient) -> None:
    made = await created(api, description="text", metadata={"team": ["a", 1, None]})
    tunnel = made["tunnel"]
    assert made.keys() == {"tunnel", "connect_secret"}
    assert made["connect_secret"].startswith("whs_")
    for known, expected in {
        "tunnel_name": "my-agent",
        "tls_mode": "edge",
        "status": "active",
        "public_host": "my-agent.example.org",
        "zone": "zone.example.org",
        "public_urls": ["https://my-agent.example.org:8443", "http://my-agent.example.org:8080"],
        "description": "text",
        "metadata": {"team": ["a", 1, None]},
        "currently_connected": False,
    }.items():
        assert tunnel[known] == expected, known
    for null in (
        "last_connected_at",
        "last_disconnected_at",
        "last_connected_ip_addr",
        "restore_deadline_at",
        "cert_pem",
        "cert_fingerprint_sha256",
        "cert_expires_at",
    ):
        assert tunnel[null] is None, null
    assert tunnel["agent_identity_id"] == tunnel["id"]
    assert tunnel["created_at"] == tunnel["updated_at"] and tunnel["created_at"].endswith("Z")


async def test_the_secret_is_shown_once(api: httpx.AsyncClient) -> None:
    made = await created(api)
    for answer in (await api.get("/tunnels/"), await api.get(f"/tunnels/{made['tunnel']['id']}")):
        assert made["connect_secret"] not in answer.text and "whs_" not in answer.text


@pytest.mark.parametrize("path", ["/tunnels", "/tunnels/"])
async def test_the_collection_answers_with_and_without_a_slash(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.post(path, json={"tunnel_name": "my-agent"})
    assert answer.status_code == 201
    listed = await api.get(path)
    assert listed.json() == {"tunnels": [answer.json()["tunnel"]]}
    assert (await api.get(path, params={"name": "my-agent"})).json() == listed.json()
    assert (await api.get(path, params={"name": "other"})).json() == {"tunnels": []}


async def test_every_path_is_the_same_with_a_slash_at_its_end(api: httpx.AsyncClient) -> None:
    path = f"/tunnels/{(await created(api))['tunnel']['id']}"
    for method, target, status in (
        ("GET", path, 200), ("PATCH", path, 200), ("POST", f"{path}/rotate-secret", 200),
        ("DELETE", path, 200), ("POST", f"{path}/restore", 200), ("DELETE", f"{path}/force", 409),
        ("GET", "/keys", 200), ("GET", "/audit", 200),
    ):  # fmt: skip
        body = {"json": {"description": "x"}} if method == "PATCH" else {}
        answer = await api.request(method, target + "/", **body)  # type: ignore[arg-type]
        assert answer.status_code == status, (method, target)
    assert (await api.get("/tunnels//")).status_code == 404, "two are another path"


async def test_head_is_get_without_its_body(api: httpx.AsyncClient) -> None:
    path = f"/tunnels/{(await created(api))['tunnel']['id']}"
    for target in (path, "/tunnels/", "/tunnels/nobody"):
        got, head = await api.get(target), await api.head(target)
        assert (head.status_code, head.headers) == (got.status_code, got.headers)
        assert head.content == b"" and int(head.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/v1/tunnels", "GET, HEAD, POST"),
        ("/api/v1/tunnels/", "GET, HEAD, POST"),
        ("/api/v1/tunnels/x", "DELETE, GET, HEAD, PATCH"),
        ("/api/v1/tunnels/x/restore", "POST"),
        ("/api/docs", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "NONSENSE"])
async def test_a_method_that_a_path_has_not_is_405_and_names_those_it_has(
    api: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answer = await api.request(method, f"http://control{path}", headers=origin)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "name",
    [
        "api",
        "www",
        "proxy",
        "3000-cl-1abc",
        f"8000-cl-{1:025}",
        "0-cl-0",
        ID,
        "acme-corp",
        "my-agent",
    ],
)
async def test_a_taken_or_reserved_name_is_a_conflict(api: httpx.AsyncClient, name: str) -> None:
    await created(api)
    answer = await api.post("/tunnels/", json={"tunnel_name": name})
    assert answer.status_code == 409
    assert f'"{name}" is ' in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"tunnel_name": "_dmarc"}, 'tunnel name "_dmarc" contains "_"'),
        ({"tunnel_name": "xn--caf-dma"}, 'must not contain "--"'),
        ({"tunnel_name": "a\n\x1b[2J"}, r"\x1b[2J"),
        ({"tunnel_name": "x" * 5000}, "5000 characters, 3 to 63"),
        ({"tunnel_name": 5}, '"tunnel_name" "5"'),
        ({"tunnel_name": None}, "tunnel_name"),
        ({"tunnel_name": ["abc"]}, "tunnel_name"),
        ({}, '"tunnel_name" is missing'),
        ([], "body"),
        ({"tunnel_name": "abc", "id": "x"}, '"id" is not a field'),
        ({"tunnel_name": "abc", "status": "deleted"}, '"status" is not a field'),
        ({"tunnel_name": "abc", "tls_mode": "none"}, "'edge' or 'passthrough'"),
        ({"tunnel_name": "abc", "description": "x" * 1001}, "1001 characters, at most 1000"),
        ({"tunnel_name": "abc", "metadata": []}, "metadata"),
        ({"tunnel_name": "abc", "metadata": {"a": "x" * 4089}}, "4097 bytes, at most 4096"),
    ],
)
async def test_a_refused_field_is_told_the_rule(api: httpx.AsyncClient, body: object, says: str) -> None:
    answer = await api.post("/tunnels/", json=body)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert says in detail and detail.isprintable() and len(detail) < 300


async def test_metadata_of_4096_bytes_is_taken(api: httpx.AsyncClient) -> None:
    made = await created(api, metadata={"a": "x" * 4088})
    assert len(made["tunnel"]["metadata"]["a"]) == 4088


async def test_description_and_metadata_change_where_given_and_null_clears(api: httpx.AsyncClient) -> None:
    made = await created(api, description="text", metadata={"a": 1})
    path = f"/tunnels/{made['tunnel']['id']}"
    for change, expected in (
        ({}, ("text", {"a": 1})),
        ({"metadata": {"b": 2}}, ("text", {"b": 2})),
        ({"description": None}, (None, {"b": 2})),
        ({"metadata": None}, (None, {})),
    ):
        tunnel = (await api.patch(path, json=change)).json()
        assert (tunnel["description"], tunnel["metadata"]) == expected
    for refused in ({"tunnel_name": "other"}, {"status": "active"}, {"organization_id": "x"}):
        assert (await api.patch(path, json=refused)).status_code == 422


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": True},
        {"a": 1.0},
        {"b": 2, "a": 1},
        {"a": 10**40, "b": -0.0, "c": 1.7976931348623157e308},
        {"__proto__": {"": [[], {}, "\u2028\U0001f600\x7f"]}},
    ],
)
async def test_metadata_comes_back_as_it_was_given_whatever_was_there(
    api: httpx.AsyncClient, metadata: dict[str, object]
) -> None:
    path = f"/tunnels/{(await created(api, metadata={'a': 1, 'b': 2}))['tunnel']['id']}"
    await api.patch(path, json={"metadata": {"a": 1}})
    await api.patch(path, json={"metadata": metadata})
    for answer in ((await api.get(path)).json(), (await api.get("/tunnels/")).json()["tunnels"][0]):
        assert json.dumps(answer["metadata"]) == json.dumps(metadata)


async def test_a_patch_that_changes_nothing_is_no_change(api: httpx.AsyncClient) -> None:
    tunnel = (await created(api, description="text", metadata={"a": 1}))["tunnel"]
    path = f"/tunnels/{tunnel['id']}"
    for nothing in ({}, {"description": "text"}, {"metadata": {"a": 1}, "description": "text"}):
        assert (await api.patch(path, json=nothing)).json() == tunnel
    await api.patch(path, json={"description": "other", "metadata": {"a": 1}})
    (entry,) = (await api.get("/audit", params={"action": "tunnel.update"})).json()["entries"]
    assert (entry["before"], entry["after"]) == ({"description": "text"}, {"description": "other"})


async def test_delete_and_restore_answer_with_the_record(api: httpx.AsyncClient) -> None:
    made = await created(api)
    path = f"/tunnels/{made['tunnel']['id']}"
    for _ in range(2):
        deleted = await api.delete(path)
        assert (deleted.status_code, deleted.json()["status"]) == (200, "delete_pending")
        assert deleted.json()["restore_deadline_at"] is not None
    assert (await api.get("/tunnels/")).json()["tunnels"] == [deleted.json()]
    restored = await api.post(f"{path}/restore")
    assert (restored.status_code, restored.json()["status"]) == (200, "active")
    assert restored.json()["restore_deadline_at"] is None
    again = await api.post(f"{path}/restore")
    assert again.status_code == 409


async def test_a_session_shows_at_once(store: Store, api: httpx.AsyncClient) -> None:
    made = await created(api)
    tunnel_id = TunnelId(made["tunnel"]["id"])
    store.directory.session_opened(tunnel_id, "s_1", "192.0.2.7", "test")
    tunnel = (await api.get(f"/tunnels/{tunnel_id}")).json()
    assert tunnel["currently_connected"] and tunnel["last_connected_ip_addr"] == "192.0.2.7"
    store.directory.session_closed(tunnel_id, "s_1")
    tunnel = (await api.get(f"/tunnels/{tunnel_id}")).json()
    assert not tunnel["currently_connected"] and tunnel["last_disconnected_at"] is not None


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
@pytest.mark.parametrize("tunnel_id", ["nonsense", "0b0c6d0e-0000-4000-8000-000000000000", "%00", "a%2Fb"])
async def test_an_id_of_nobody_is_404(api: httpx.AsyncClient, method: str, tunnel_id: str) -> None:
    path = f"/tunnels/{tunnel_id}" + ("/restore" if method == "POST" else "")
    answer = await api.request(method, path, json={} if method == "PATCH" else None)
    assert answer.status_code == 404


async def test_another_organizations_id_is_404_as_if_it_were_not(
    store: Store, api: httpx.AsyncClient
) -> None:
    made = await created(api)
    path = f"/tunnels/{made['tunnel']['id']}"
    _, key = await store.create_organization("theirs")
    headers = {"X-API-Key": key.reveal()}
    missing = await api.get("/tunnels/nonsense")
    for method, target in (("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/restore")):
        body: dict[str, str] | None = {} if method == "PATCH" else None
        answer = await api.request(method, target, headers=headers, json=body)
        assert (answer.status_code, answer.content) == (404, missing.content)
    assert (await api.get("/tunnels/", headers=headers)).json() == {"tunnels": []}
    assert (await api.get(path)).json() == made["tunnel"]


async def test_a_scoped_key_sees_its_tunnel_alone(
    api: httpx.AsyncClient, scoped: tuple[str, str, dict[str, str]]
) -> None:
    first, second, headers = scoped
    listed = (await api.get("/tunnels/", headers=headers)).json()["tunnels"]
    assert [tunnel["id"] for tunnel in listed] == [first]
    assert (await api.get(f"/tunnels/{first}", headers=headers)).status_code == 200
    assert (await api.get(f"/tunnels/{second}", headers=headers)).status_code == 404


async def test_a_scoped_key_changes_nothing(
    api: httpx.AsyncClient, scoped: tuple[str, str, dict[str, str]]
) -> None:
    first, second, headers = scoped
    for method, path, body, expected in (
        ("POST", "/tunnels/", {"tunnel_name": "third"}, 403),
        ("PATCH", f"/tunnels/{first}", {"description": "x"}, 403),
        ("DELETE", f"/tunnels/{first}", None, 403),
        ("POST", f"/tunnels/{first}/restore", None, 403),
        ("PATCH", f"/tunnels/{second}", {"description": "x"}, 404),
        ("DELETE", f"/tunnels/{second}", None, 404),
        ("POST", f"/tunnels/{second}/restore", None, 404),
    ):
        answer = await api.request(method, path, headers=headers, json=body)
        assert (method, path, answer.status_code) == (method, path, expected)
    assert len((await api.get("/tunnels/")).json()["tunnels"]) == 2
