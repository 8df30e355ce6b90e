"""What runs, what listens, and what it takes."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.api_host import ApiHost, LiveGuest


async def test_processes_are_listed_in_wrenns_words_and_ours(host: ApiHost) -> None:
    told = (await host.post("/exec", cmd="sleep", args=["50"], background=True, tag="mine")).json()
    found = (await host.http.get("/processes")).json()["processes"]
    process = next(process for process in found if process["pid"] == told["pid"])
    assert process["started_at"] > 0 and process["user"]
    del process["started_at"], process["user"]
    assert process == {
        "pid": told["pid"], "tag": "mine", "cmd": "sleep", "args": ["50"], "argv": ["sleep", "50"],
        "kind": "background",
    }  # fmt: skip
    assert (await host.http.delete("/processes/mine")).status_code == 204


async def test_a_killed_process_leaves_the_list_with_all_that_it_started(
    host: ApiHost, guest: LiveGuest
) -> None:
    told = (await host.post("/exec", cmd="sh", args=["-c", "sleep 4000 & wait"], background=True)).json()
    assert (await host.http.delete(f"/processes/{told['pid']}")).status_code == 204
    async with asyncio.timeout(20):
        while told["pid"] in [
            each["pid"] for each in (await host.http.get("/processes")).json()["processes"]
        ]:
            pass
    assert not guest.runs("sleep", "4000")
    assert (await host.http.delete(f"/processes/{told['pid']}")).status_code == 404


async def test_the_signal_is_the_one_that_is_named(host: ApiHost) -> None:
    talk = await host.open("/exec/stream")
    talk.say(type="start", cmd="sh", args=["-c", "trap 'exit 7' TERM; echo on; while :; do sleep 0.05; done"])
    pid = (await talk.heard())["pid"]
    await talk.until("stdout")
    assert (await host.http.delete(f"/processes/{pid}?signal=SIGTERM")).status_code == 204
    assert (await talk.until("exit"))[1]["exit_code"] == 7


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nobody", 404),
        ("4000000", 404),
        ("1?signal=SIGNOPE", 400),
        ("%20", 400),
        ("99999999999", 400),
        ("a%2Fb", 404),
    ],
)
async def test_what_names_no_process_or_signal_is_refused(host: ApiHost, path: str, status: int) -> None:
    answer = await host.http.delete(f"/processes/{path}")
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


async def test_to_look_at_ports_is_no_activity_and_to_begin_something_stirs(host: ApiHost) -> None:
    entry = host.table.entry(host.id)
    entry.last_active, entry.stirred_at = 0.0, -1e9
    assert (await host.http.get("/ports")).status_code == 200
    assert (entry.last_active, entry.stirred_at) == (0.0, -1e9)
    for path in ("/exec/stream", "/pty"):
        entry.stirred_at = -1e9
        talk = await host.open(path)
        talk.say(type="start", cmd="cat")
        await talk.heard()
        assert entry.stirred_at > 0, path
    entry.stirred_at = -1e9
    talk.write(b"\n")
    await talk.heard()
    assert entry.stirred_at > 0
    for members in ({"argv": ["true"]}, {"cmd": "true", "background": True}):
        entry.stirred_at = -1e9
        await host.post("/exec", **members)
        assert entry.stirred_at > 0


async def test_metrics_are_points_of_a_span(host: ApiHost) -> None:
    answer = (await host.http.get("/metrics")).json()
    assert answer == {"sandbox_id": host.id, "range": "10m", "points": []}
    assert (await host.http.get("/metrics?range=2h")).json()["range"] == "2h"
    assert (await host.http.get("/metrics?range=3d")).status_code == 400
    gone = await host.http.get("http://host/sandboxes/cl-" + "0" * 25 + "/metrics")
    assert gone.status_code == 404
