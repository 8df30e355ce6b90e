"""Commands on WebSockets: wrenn's text and our bytes, begun and attached to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.api_host import ApiHost, LiveGuest, Talk, api_host
from wellhead.host.api.context import ApiTerms
from wellhead.host.api.exec_json import ExecJson
from wellhead.host.guest_stream import Exited, Output
from wellhead.model.sandboxes import SandboxStatus

OURS = "wellhead.exec.1"


async def started(host: ApiHost, *argv: str, **members: object) -> tuple[Talk, Any]:
    """Our dialect, and a command that was begun."""
    talk = await host.open("/exec/stream", OURS)
    talk.say(type="start", argv=argv, **members)
    return talk, await talk.heard()


async def begun(host: ApiHost, script: str, tag: str | None = None) -> Any:
    """A process in the background."""
    answer = await host.post("/exec", cmd="/bin/sh", args=["-c", script], background=True, tag=tag)
    assert answer.status_code == 202
    return answer.json()


async def test_wrenns_stream_tells_start_output_and_exit_and_is_closed(host: ApiHost) -> None:
    talk = await host.open("/exec/stream")
    talk.say(type="start", cmd="/bin/sh", args=["-c", "echo out; echo err >&2; exit 5"])
    start = await talk.heard()
    assert start["type"] == "start" and start["pid"] > 0
    before, end = await talk.until("exit")
    assert end == {"type": "exit", "exit_code": 5}
    assert {(told["type"], told["data"]) for told in before} == {("stdout", "out\n"), ("stderr", "err\n")}
    assert await talk.heard() == {"type": "closed", "code": 1000}


async def test_stop_ends_the_command_and_all_that_it_started(host: ApiHost, guest: LiveGuest) -> None:
    talk = await host.open("/exec/stream")
    talk.say(type="start", cmd="/bin/sh", args=["-c", "sleep 2000 & echo on; wait"])
    await talk.until("stdout")
    talk.say(type="stop")
    assert (await talk.until("exit"))[1] == {"type": "exit", "exit_code": -1}
    assert not guest.runs("sleep", "2000")


async def test_a_time_out_is_an_error_in_wrenns_words_and_a_fact_in_ours(host: ApiHost) -> None:
    talk = await host.open("/exec/stream")
    talk.say(type="start", cmd="sleep", args=["1000"], timeout_sec=0.1)
    assert "time-out" in (await talk.until("error"))[1]["data"]
    talk, _ = await started(host, "sleep", "1000", timeout_seconds=0.1)
    end = (await talk.until("exited"))[1]
    assert end == {"type": "exited", "exit_code": None, "signal": 9, "timed_out": True}


def test_a_character_in_two_pieces_stays_whole_and_other_bytes_are_shown_as_such() -> None:
    text = "ärger → 😀 fin".encode()
    for cut in range(len(text)):
        dialect = ExecJson(1000)
        told = [*dialect.told(Output(text[:cut])), *dialect.told(Output(b"!", errors=True))]
        told += dialect.told(Output(text[cut:]))
        assert "\\ufffd" not in "".join(map(str, told))
    dialect = ExecJson(1000)
    assert dialect.told(Output(b"a\xe2\x82")) == ['{"type":"stdout","data":"a"}']
    assert dialect.told(Exited(0, None, False)) == [
        '{"type":"stdout","data":"\\ufffd"}',
        '{"type":"exit","exit_code":0}',
    ]


async def test_bytes_go_both_ways_whatever_they_are(host: ApiHost) -> None:
    talk, start = await started(host, "cat", stdin=True)
    assert start["type"] == "started" and start["tag"] is None
    sent = bytes(range(256)) * 4096
    for at in range(0, len(sent), 60_000):
        talk.write(b"\0" + sent[at : at + 60_000])
    talk.write(b"\0")
    pieces, end = await talk.until("exited")
    assert b"".join(piece[1:] for piece in pieces) == sent
    assert {piece[0] for piece in pieces} == {1}
    assert end == {"type": "exited", "exit_code": 0, "signal": None, "timed_out": False}
    assert await talk.heard() == {"type": "closed", "code": 1000}


async def test_standard_error_has_a_channel_of_its_own(host: ApiHost) -> None:
    talk, _ = await started(host, "sh", "-c", "printf e >&2; kill -TERM $$")
    assert await talk.until("exited") == (
        [b"\x02e"], {"type": "exited", "exit_code": None, "signal": 15, "timed_out": False},
    )  # fmt: skip


async def test_a_signal_reaches_a_command_that_does_not_read_its_input(host: ApiHost) -> None:
    talk, _ = await started(
        host, "sh", "-c", "trap 'echo caught; exit 3' INT; echo on; while :; do sleep 0.05; done", stdin=True
    )
    assert await talk.heard() == b"\x01on\n"
    for _ in range(16):
        talk.write(b"\0" + bytes(60_000))
    talk.say(type="signal", signal="SIGINT")
    before, end = await talk.until("exited")
    assert b"\x01caught\n" in before and end["exit_code"] == 3


async def test_a_visitor_that_leaves_ends_its_command(host: ApiHost, guest: LiveGuest) -> None:
    talk, _ = await started(host, "sleep", "3000")
    talk.client.visit.stream.reset(1)
    async with asyncio.timeout(20):
        while guest.runs("sleep", "3000"):
            await host.exec("true")


async def test_a_slow_visitor_makes_the_command_wait_and_gets_every_byte(host: ApiHost) -> None:
    talk = await host.open("/exec/stream", OURS)
    talk.client.visit.holding = True
    talk.say(type="start", argv=["head", "-c", "3000000", "/dev/zero"])
    await asyncio.sleep(0.2)
    assert len(talk.client.visit.body) < 2_000_000
    talk.client.visit.release()
    pieces, end = await talk.until("exited")
    assert sum(len(piece) - 1 for piece in pieces[1:]) == 3_000_000
    assert end["exit_code"] == 0


@pytest.mark.parametrize("subprotocol", ["", OURS])
@pytest.mark.parametrize(
    "first",
    ["{", "[]", '{"type":"stop"}', '{"type":"dance"}', '{"type":"start"}', '{"type":"start","argv":[1]}'],
)
async def test_what_does_not_begin_a_command_is_refused(host: ApiHost, subprotocol: str, first: str) -> None:
    talk = await host.open("/exec/stream", subprotocol)
    talk.client.say(first)
    error = await talk.heard()
    assert error["type"] == "error" and (error.get("data") or error["code"] == "invalid_request")
    assert await talk.heard() == {"type": "closed", "code": 1008}


async def test_a_program_that_is_missing_is_an_error_and_the_end(host: ApiHost) -> None:
    talk = await host.open("/exec/stream")
    talk.say(type="start", cmd="/no/such/program")
    assert "/no/such/program" in (await talk.heard())["data"]
    assert (await talk.heard())["type"] == "closed"


async def test_a_message_above_its_bound_ends_the_conversation(host: ApiHost) -> None:
    talk, _ = await started(host, "cat", stdin=True)
    talk.write(bytes(64 * 1024 + 1))
    error = await talk.heard()
    assert (error["code"], error["fatal"]) == ("too_large", True) and "65536" in error["message"]
    assert await talk.heard() == {"type": "closed", "code": 1009}


async def test_bytes_for_another_channel_and_unknown_signals_are_refused(host: ApiHost) -> None:
    for member in (b"\x01x", b""):
        talk, _ = await started(host, "cat", stdin=True)
        talk.write(member)
        assert "channel" in (await talk.heard())["message"]
    talk, _ = await started(host, "cat", stdin=True)
    talk.say(type="signal", signal="NOPE")
    assert 'unknown signal "NOPE"' in (await talk.heard())["message"]


async def test_silence_instead_of_a_first_message_is_ended(guest: LiveGuest) -> None:
    async with api_host(guest, ApiTerms(first_seconds=0.05)) as host:
        talk = await host.open("/exec/stream")
        assert "0.05 s" in (await talk.heard())["data"]


async def test_our_dialect_is_pinged_and_wrenns_is_not(guest: LiveGuest) -> None:
    async with api_host(guest, ApiTerms(ping_seconds=0.05)) as host:
        talk, _ = await started(host, "sleep", "0.4")
        before, _ = await talk.until("exited")
        assert {"type": "ping"} in before
        talk = await host.open("/exec/stream")
        talk.say(type="start", cmd="sleep", args=["0.2"])
        assert (await talk.until("exit"))[0][1:] == []


async def test_a_process_in_the_background_is_listened_to_by_pid_and_by_tag(host: ApiHost) -> None:
    told = await begun(host, "echo early; sleep 0.5; echo late", "ticker")
    assert told["tag"] == "ticker" and told["pid"] > 0 and told["sandbox_id"] == host.id
    by_pid = await host.open(f"/processes/{told['pid']}/stream")
    by_tag = await host.open("/processes/ticker/stream?after=0", OURS)
    before, end = await by_pid.until("exit")
    assert before[0] == {"type": "start", "pid": told["pid"]}
    assert "late\n" in before[-1]["data"] and end["exit_code"] == 0
    attached = await by_tag.heard()
    assert attached == {"type": "attached", "pid": told["pid"], "tag": "ticker", "next": 0, "lost": 0}
    pieces, _ = await by_tag.until("exited")
    assert b"".join(piece[1:] for piece in pieces) == b"early\nlate\n"


async def test_logs_begin_where_they_are_asked_to(host: ApiHost) -> None:
    told = await begun(host, "echo 0123456789; sleep 0.3")
    first = await host.open(f"/logs?selector={told['tag']}&after=0", OURS)
    await first.heard()
    assert await first.heard() == b"\x010123456789\n"
    talk = await host.open(f"/logs?selector={told['tag']}&after=4", OURS)
    assert (await talk.heard())["next"] == 4
    pieces, _ = await talk.until("exited")
    assert b"".join(piece[1:] for piece in pieces) == b"456789\n"


async def test_leaving_a_process_in_the_background_lets_it_run(host: ApiHost) -> None:
    told = await begun(host, "sleep 60")
    talk = await host.open(f"/processes/{told['pid']}/stream")
    await talk.until("start")
    talk.client.visit.stream.reset(1)
    listed = (await host.http.get("/processes")).json()["processes"]
    assert told["pid"] in [process["pid"] for process in listed]
    await host.http.delete(f"/processes/{told['pid']}")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/processes/4000000/stream", 1008),
        ("/processes/nobody/stream", 1008),
        ("/logs", 1008),
        ("/logs?selector=x&after=-1", 1008),
    ],
)
async def test_a_process_that_is_not_there_is_an_error_and_the_end(
    host: ApiHost, path: str, code: int
) -> None:
    talk = await host.open(path)
    assert (await talk.heard())["type"] == "error"
    assert await talk.heard() == {"type": "closed", "code": code}


async def test_a_sandbox_that_does_not_run_refuses_before_the_upgrade(host: ApiHost) -> None:
    await host.sandboxes.pause(host.id)
    talk = await host.open("/exec/stream")
    assert talk.status == 409
    assert b'"code":"invalid_state"' in bytes(talk.client.visit.body).replace(b": ", b":")


async def test_a_sandbox_is_busy_while_a_command_runs_in_it(host: ApiHost) -> None:
    entry = host.table.entry(host.id)
    talk, _ = await started(host, "cat", stdin=True)
    assert entry.busy == 1 and entry.status is SandboxStatus.RUNNING
    talk.write(b"\0")
    await talk.until("exited")
    await talk.heard()
    assert entry.busy == 0
