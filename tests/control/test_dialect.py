from __future__ import annotations

import httpx
import pytest

from tests.control.conftest import PUBLIC
from tests.kit.control import built
from tests.kit.fake_hosts import FakeHost
from wellhead.control import dialect
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.settings import ServerSettings


@pytest.mark.parametrize(
    ("path", "plain", "legacy"),
    [
        ("/api/v1/capsules", "/api/v1/sandboxes", False),
        ("/api/v1/capsules/cl-1/pause", "/api/v1/sandboxes/cl-1/pause", False),
        ("/api/v1/capsulesque", "/api/v1/capsulesque", False),
        ("/legacy/api/v1/capsules", "/api/v1/sandboxes", True),
        ("/legacy/api/v1/snapshots/x", "/api/v1/snapshots/x", True),
        ("/legacy/api/v1/events/stream", "/api/v1/events/stream", True),
        ("/legacy/api/v1/tunnels", "/legacy/api/v1/tunnels", True),
        ("/legacy/legacy/api/v1/capsules", "/legacy/legacy/api/v1/capsules", True),
        ("/api/v1/tunnels", "/api/v1/tunnels", False),
    ],
)
def test_each_path_has_one_spelling(path: str, plain: str, legacy: bool) -> None:
    assert dialect.plain(path) == (plain, legacy)


@pytest.mark.parametrize("prefix", ["/api/v1/capsules", "/api/v1/sandboxes", "/legacy/api/v1/capsules"])
async def test_every_refusal_names_a_code(prefix: str, api: httpx.AsyncClient, host: FakeHost) -> None:
    async def said(method: str, path: str, **more: object) -> tuple[int, str]:
        answer = await api.request(method, f"http://control{path}", **more)  # type: ignore[arg-type]
        problem = answer.json()
        assert set(problem) == {"error"} and set(problem["error"]) == {"code", "message"}, answer.text
        assert problem["error"]["message"]
        return answer.status_code, problem["error"]["code"]

    nobody = {"headers": {"X-API-Key": "wh_wrong"}}
    text = {"content": b"{}", "headers": {"Content-Type": "text/plain"}}
    assert await said("GET", prefix, **nobody) == (401, "unauthorized")
    assert await said("GET", f"{prefix}/cl-{'0' * 25}") == (404, "not_found")
    assert await said("GET", f"{prefix}/cl-short") == (400, "invalid_request")
    assert await said("GET", f"{prefix}/cl-{'0' * 25}/nothing") == (404, "not_found")
    assert await said("PUT", prefix) == (405, "method_not_allowed")
    assert await said("POST", prefix, **text) == (415, "invalid_request")
    assert await said("POST", prefix, json={"vcpus": 0}) == (422, "invalid_request")
    assert await said("POST", prefix, content=b"{", headers={"Content-Type": "application/json"}) == (
        422,
        "invalid_request",
    )
    long = {"content": b" " * 70_000, "headers": {"Content-Type": "application/json"}}
    assert await said("POST", prefix, **long) == (413, "too_large")


async def test_other_routes_say_it_as_they_did(api: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    assert (await api.get("/tunnels/nothing")).json() == {"detail": "no such tunnel"}
    assert set((await stranger.get("/api/v1/tunnels")).json()) == {"detail"}


async def test_who_asks_too_often_is_told_so_by_a_code(store: Store, admin: Secret) -> None:
    app = built(store, PUBLIC, ServerSettings(api_requests_per_key_per_minute=1))
    headers = {"X-API-Key": admin.reveal()}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers) as client:
        assert (await client.get("/api/v1/capsules")).status_code == 200
        answer = await client.get("/api/v1/capsules")
    assert answer.status_code == 429 and answer.json()["error"]["code"] == "rate_limited"
    assert int(answer.headers["Retry-After"]) >= 1
