from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from wellhead.control import docs
from wellhead.control.problems import Faults
from wellhead.control.store import Store
from wellhead.errors import Unavailable
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import OrganizationId, TlsMode

ROUTES = [
    ("GET", "/api/v1/tunnels"),
    ("POST", "/api/v1/tunnels"),
    ("GET", "/api/v1/tunnels/x"),
    ("PATCH", "/api/v1/tunnels/x"),
    ("DELETE", "/api/v1/tunnels/x"),
    ("POST", "/api/v1/tunnels/x/restore"),
    ("DELETE", "/api/v1/tunnels/x/force"),
    ("POST", "/api/v1/tunnels/x/rotate-secret"),
    ("GET", "/api/v1/identities"),
    ("POST", "/api/v1/identities"),
    ("GET", "/api/v1/identities/x"),
    ("PATCH", "/api/v1/identities/x"),
    ("DELETE", "/api/v1/identities/x"),
    ("POST", "/api/v1/api-keys"),
    ("GET", "/api/v1/keys"),
    ("POST", "/api/v1/keys"),
    ("GET", "/api/v1/keys/x"),
    ("DELETE", "/api/v1/keys/x"),
    ("POST", "/api/v1/tunnels/x/sign-csr"),
    ("GET", "/api/v1/certificates"),
    ("GET", "/api/v1/certificates/x"),
    ("POST", "/api/v1/certificates/x/renew"),
    ("GET", "/api/v1/server-certificates"),
    ("POST", "/api/v1/server-certificates/renew"),
    ("GET", "/api/v1/audit"),
    ("GET", "/api/whoami"),
]
CODED = [
    ("GET", "/api/v1/sandboxes"),
    ("POST", "/api/v1/sandboxes"),
    ("GET", "/api/v1/sandboxes/stats"),
    ("GET", "/api/v1/sandboxes/usage"),
    ("GET", "/api/v1/sandboxes/x"),
    ("PATCH", "/api/v1/sandboxes/x"),
    ("DELETE", "/api/v1/sandboxes/x"),
    ("POST", "/api/v1/sandboxes/x/ping"),
    ("POST", "/api/v1/sandboxes/x/pause"),
    ("POST", "/api/v1/sandboxes/x/resume"),
    ("POST", "/api/v1/sandboxes/x/links"),
    ("DELETE", "/api/v1/sandboxes/x/links"),
    ("GET", "/api/v1/snapshots"),
    ("POST", "/api/v1/snapshots"),
    ("DELETE", "/api/v1/snapshots/x"),
    ("GET", "/api/v1/events/stream"),
    ("GET", "/api/v1/hosts"),
    ("POST", "/api/v1/hosts"),
    ("GET", "/api/v1/hosts/x"),
    ("PATCH", "/api/v1/hosts/x"),
    ("DELETE", "/api/v1/hosts/x"),
    ("POST", "/api/v1/hosts/x/report"),
]
NO_KEY = "a valid API key is needed in X-API-Key"


def test_the_list_of_routes_is_whole(app: FastAPI) -> None:
    document = app.openapi()
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "x", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    open_to_all = {("GET", "/healthz"), ("GET", "/ca.crl"), ("POST", "/api/v1/hosts/join")}
    assert described == {*ROUTES, *CODED, *open_to_all}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *ROUTES,
        *CODED,
        ("GET", "/api/v1"),
        ("GET", "/api/v1/"),
        ("GET", "/api/v1/no/such/path"),
        ("POST", "/legacy/api/v1/capsules"),
        ("GET", "/legacy/api/v1/no/such/path"),
    ],
)
async def test_without_a_live_key_everything_is_one_401(
    stranger: httpx.AsyncClient, admin: Secret, method: str, path: str
) -> None:
    keys: list[str | bytes | None] = [
        None,
        "",
        "nonsense",
        "wh_" + "a" * 57,
        "pass\u00e9".encode(),
        b"\xff\xfe",
        "x" * 8000,
        access.mint(access.API_KEY).reveal(),
        access.mint(access.CONNECT_SECRET).reveal(),
        admin.reveal()[:-1],
    ]
    for key in keys:
        headers: dict[str, Any] = {} if key is None else {"X-API-Key": key}
        answer = await stranger.request(method, path, headers=headers, content=b"{not json")
        assert answer.status_code == 401
        coded = (method, path) in CODED or path.startswith("/legacy")
        told = {"error": {"code": "unauthorized", "message": NO_KEY}} if coded else {"detail": NO_KEY}
        assert answer.json() == told
        assert set(answer.headers) == {
            "content-length",
            "content-type",
            "cache-control",
            "x-content-type-options",
        }


async def test_a_connect_secret_or_two_keys_are_no_key(
    store: Store, stranger: httpx.AsyncClient, admin: Secret, organization: OrganizationId
) -> None:
    _, secret = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    for keys in ([secret.reveal()], [admin.reveal(), admin.reveal()], [admin.reveal() + " "]):
        answer = await stranger.get("/api/v1/tunnels/", headers=[("X-API-Key", key) for key in keys])
        assert answer.status_code == 401


async def test_the_servers_health_is_for_everybody(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_an_unknown_path_or_method_is_answered_in_the_one_shape(api: httpx.AsyncClient) -> None:
    assert (await api.get("/nothing")).json() == {"detail": "not found"}
    wrong = await api.put("/tunnels/x")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "method not allowed"})


async def test_answers_are_not_for_caches(api: httpx.AsyncClient) -> None:
    for path in ("/tunnels/", "/nothing"):
        answer = await api.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_locked_database_is_503_with_retry_after(
    store: Store, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_: object) -> None:
        raise Unavailable(503, "the database does not answer, try again", retry_after_seconds=1)

    monkeypatch.setattr(store, "tunnel", locked)
    answer = await api.get("/tunnels/x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_fault_of_ours_is_a_constant_answer_and_one_log_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()
    app.add_middleware(Faults)

    @app.get("/")
    async def broken() -> None:
        raise ZeroDivisionError("inner workings")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()) == (500, {"detail": "internal error"})
    (record,) = caplog.records
    assert record.getMessage() == "request failed method=GET path=/"
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


async def test_the_docs_page_shows_every_route_and_loads_nothing(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/api/docs")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == docs.POLICY
    for word in ("<script", "src=", "http://", "https://", "@import"):
        assert word not in answer.text
    for path in ("/api/v1/tunnels", "/api/v1/tunnels/{tunnel_id}/restore", "/healthz"):
        assert path in answer.text
    document = await stranger.get("/api/openapi.json")
    assert document.json()["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in document.text


def test_text_in_the_document_cannot_become_markup() -> None:
    hostile = "<script>alert(1)</script>"
    page = docs.page(
        {
            "info": {"title": hostile, "version": hostile},
            "paths": {hostile: {hostile: {"description": hostile, "responses": {}}}},
        }
    )
    assert "<script" not in page


async def test_the_file_with_the_records_holds_no_issued_secret(
    store: Store, file: Path, admin: Secret, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    _, other = await store.create_key(organization, [access.ADMIN])
    made = await api.post("/tunnels/", json={"tunnel_name": "my-agent"})
    stored = b"".join(each.read_bytes() for each in sorted(file.parent.iterdir()))
    assert b"my-agent" in stored
    for secret in (admin, other, Secret(made.json()["connect_secret"])):
        text = secret.reveal().encode()
        assert text not in stored
        body = text.partition(b"_")[2][8:-6]  # the secret half
        assert body not in stored and body[:12] not in stored and body[-12:] not in stored
