"""What holds for every route: the shape of errors, and that no slash is put right."""

from __future__ import annotations

import pytest

from tests.kit.api_host import ApiHost
from tests.kit.inprocess import envelope
from wellhead.host.guest_link import GuestLink


async def test_routes_and_methods_that_are_not_there_are_refused_in_one_shape(host: ApiHost) -> None:
    for method, path, status, code in [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/exec/", 404, "not_found"),
        ("GET", "/exec", 405, "method_not_allowed"),
        ("GET", "/exec/stream", 404, "not_found"),
        ("POST", "/files/..", 404, "not_found"),
    ]:
        answer = await host.http.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_fault_of_ours_is_told_without_its_details(
    host: ApiHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faulty(self: GuestLink) -> list[dict[str, object]]:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(GuestLink, "ports", faulty)
    visit = host.visit(envelope("GET", f"/sandboxes/{host.id}/ports"))
    await visit.over()
    assert visit.status == 500
    assert b'"internal_error"' in visit.body and b"secret" not in visit.body


async def test_an_id_that_is_none_is_refused_before_anything_else(host: ApiHost) -> None:
    for name in ("cl-", "cl-" + "z" * 25, "cl-" + "0" * 24, "host-" + "0" * 25, "x"):
        answer = await host.http.get(f"http://host/sandboxes/{name}/processes")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
