"""What the vendor's own smoke suites ask of a server, in our words: an account, an app, a stalled app."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.carriers import Upstream
from tests.kit.programs import Edge, eventually
from tests.kit.sdks import NEW, SdkAgent, sdk
from tests.kit.visitors import ask
from tests.kit.zones import NEEDED, zoned

pytestmark = NEEDED

SECRET = "between services"
DEADLINE_SECONDS = 2.0


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {
        "testing_secret_sha256": hashlib.sha256(SECRET.encode()).hexdigest(),
        "h2_carrier_deadline_seconds": DEADLINE_SECONDS,
    }
    with zoned(tmp_path_factory.mktemp("zone"), **settings) as edge:
        yield edge


def harness(edge: Edge, call: str, body: dict[str, Any], secret: str = SECRET) -> httpx.Response:
    """A call of the test harness's."""
    with httpx.Client(verify=edge.trust(), trust_env=False, timeout=20) as client:
        url = f"{edge.api}/testing/{call}-test-user-organization"
        return client.post(url, json=body, headers={"X-Interservice-Secret": secret})


async def test_an_account_of_its_own_from_its_making_to_its_end(edge: Edge, tmp_path: Path) -> None:
    assert harness(edge, "create", {"create_api_key": True}, "another").status_code in (401, 403, 404)
    account = harness(edge, "create", {"create_api_key": True}).json()["accounts"][0]
    key = account["api_key"]
    make = 'made = inkbox.create_identity("smoke-app"); print(inkbox.get_identity("smoke-app").tunnel.status)'
    assert "active" in sdk(NEW).run(make, edge, tmp_path, key=key).lower()
    seen = "print([each.tunnel_name for each in inkbox.tunnels.list()])"
    assert sdk(NEW).run(seen, edge, tmp_path, key=key).strip() == "['smoke-app']"
    assert "smoke-app" not in sdk(NEW).run(seen, edge, tmp_path)  # the server's own organization

    def connected() -> bool:
        told = "print(inkbox.tunnels.list()[0].currently_connected)"
        return sdk(NEW).run(told, edge, tmp_path, key=key).strip() == "True"

    with (
        Upstream() as upstream,
        SdkAgent(sdk(NEW), edge, tmp_path, "smoke-app", "--forward-to", upstream.url, key=key) as agent,
    ):
        eventually(connected, 10)
        reply = await ask(edge, agent.hostname, "/echo/hook?x=1", method="POST")
        assert json.loads(reply.body)["target"] == "/echo/hook?x=1"
        cookies = (await ask(edge, agent.hostname, "/cookies")).all("set-cookie")
        assert cookies == ["sid=abc; Path=/", "theme=dark; Path=/"]
        began = time.monotonic()
        assert (await ask(edge, agent.hostname, "/wait/60000")).status == 504
        assert time.monotonic() - began < DEADLINE_SECONDS + 5
        assert (await ask(edge, agent.hostname)).status == 200
        accounts = [{name: account[name] for name in ("user_id", "org_id")}]
        assert harness(edge, "cleanup", {"accounts": accounts}).is_success
        agent.line("^ended _TunnelAuthError")
    assert (await ask(edge, agent.hostname)).status in (404, 410)


def test_without_the_setting_there_is_no_such_call(tmp_path: Path) -> None:
    with zoned(tmp_path) as edge:
        assert harness(edge, "create", {"create_api_key": True}).status_code in (401, 404)
