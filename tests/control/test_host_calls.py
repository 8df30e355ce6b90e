from __future__ import annotations

import json

import pytest

from tests.kit.fake_hosts import FakeHosts
from wellhead.control.host_calls import HostCalls, Order, nobody
from wellhead.errors import HostAway, HostBusy, HostError, HostNotFound, HostState
from wellhead.model.sandboxes import HostId, SandboxId

HOST, SANDBOX = HostId("host-1"), SandboxId("cl-1")
ORDER = Order(SANDBOX, "minimal", 1, 512, 5120, 0, {})


class Answering:
    """A host that answers one thing."""

    def __init__(self, status: int, body: str) -> None:
        self.answer = status, body

    async def call(
        self, host: HostId, method: str, target: str, body: str, seconds: float
    ) -> tuple[int, str]:
        return self.answer


def failing(status: int, code: str, message: str = "why") -> HostCalls:
    return HostCalls(Answering(status, json.dumps({"error": {"code": code, "message": message}})).call, 1, 1)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "not_found", HostNotFound),
        (409, "invalid_state", HostState),
        (503, "no_hosts_available", HostBusy),
        (502, "agent_error", HostError),
        (500, "something_new", HostError),
        (503, "host_unavailable", HostError),  # it answers, so it is not away
    ],
)
async def test_a_hosts_refusal_is_what_it_says(status: int, code: str, kind: type[HostError]) -> None:
    with pytest.raises(HostError, match="^why$") as raised:
        await failing(status, code).create(HOST, ORDER)
    assert type(raised.value) is kind


@pytest.mark.parametrize("body", ["", "{}", "<html>", '{"error": "text"}', "\ud800"])
async def test_a_refusal_that_is_not_understood_is_a_failure_of_the_host(body: str) -> None:
    with pytest.raises(HostError, match="^the host answered 500$"):
        await HostCalls(Answering(500, body).call, 1, 1).pause(HOST, SANDBOX)
    with pytest.raises(HostError, match="not understood"):
        await HostCalls(Answering(201, "[1]").call, 1, 1).create(HOST, ORDER)


async def test_what_a_host_says_is_shown_without_its_controls_and_not_at_any_length() -> None:
    with pytest.raises(HostError) as raised:
        await failing(500, "agent_error", "\x1b[31m" + "x" * 10_000).resume(HOST, SANDBOX)
    assert str(raised.value).startswith("\\x1b[31mx") and len(str(raised.value)) == 500


async def test_a_host_that_is_not_reached_is_away() -> None:
    for call in (nobody, FakeHosts(away={HOST}).call):
        with pytest.raises(HostAway, match="host host-1 cannot be reached"):
            await HostCalls(call, 1, 1).ping(HOST, SANDBOX)


async def test_what_is_not_there_is_destroyed_already() -> None:
    await failing(404, "not_found").destroy(HOST, SANDBOX)
    await failing(404, "not_found").remove_template(HOST, "mine")


async def test_each_call_has_its_time() -> None:
    hosts = FakeHosts(sandboxes={HOST: {SANDBOX: "running"}})
    calls = HostCalls(hosts.call, 7, 70)
    await calls.pause(HOST, SANDBOX)
    await calls.snapshot(HOST, SANDBOX, "a/b", overwrite=True)
    await calls.remove_template(HOST, "a/b")
    assert [call.seconds for call in hosts.calls] == [7, 70, 7]
    assert hosts.calls[-1].target == "/control/templates/a%2Fb"
