"""What holds for every route: the shape of errors, and that no slash is put right."""

from __future__ import annotations

import psutil
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


async def test_no_connection_with_the_guest_is_left_behind(host: ApiHost) -> None:
    async def everything() -> None:
        await host.exec("true")
        assert (await host.post("/exec", argv=["/no/such/program"])).status_code == 404
        assert (await host.post("/exec", argv=["sleep", "9"], timeout_seconds=0.01)).status_code == 504
        assert (await host.post("/files/read", path="/no/such/file")).status_code == 404
        assert (await host.post("/files/read", path="/etc/passwd")).status_code == 200
        assert (
            await host.http.put("/files/write", params={"path": "/dev/null"}, content=b"x")
        ).status_code == 400
        assert (await host.http.get("/processes")).status_code == 200
        for path, first in (("/pty", {"type": "connect", "tag": "x"}), ("/exec/stream", {"type": "start"})):
            talk = await host.open(path)
            talk.say(**first)
            await talk.until("error")
            await talk.heard()
        talk = await host.open("/exec/stream")
        talk.say(type="start", cmd="sleep", args=["9"])
        await talk.heard()
        talk.client.visit.stream.reset(1)
        await host.idle()

    await everything()
    before = psutil.Process().num_fds()
    for _ in range(5):
        await everything()
    assert psutil.Process().num_fds() <= before + 2
