"""Commands that are answered at once: both ways to say them, and what cannot be done."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import pytest
from starlette.responses import StreamingResponse

from tests.kit.api_host import ApiHost, LiveGuest, api_host
from wellhead.host.api import outcome
from wellhead.host.api.context import ApiTerms
from wellhead.host.api.outcome import Ran
from wellhead.host.guest_stream import Exited


async def test_a_command_of_wrenn_is_answered_with_what_it_wrote(host: ApiHost) -> None:
    answer = await host.post("/exec", cmd="/bin/sh", args=["-c", "echo out; echo err >&2; exit 42"])
    assert answer.status_code == 200
    told = answer.json()
    assert told.pop("duration_ms") >= 0
    assert told == {
        "sandbox_id": host.id, "cmd": "/bin/sh", "stdout": "out\n", "stderr": "err\n", "encoding": "utf-8",
        "exit_code": 42,
    }  # fmt: skip


async def test_what_is_no_utf8_makes_base64_of_both_streams(host: ApiHost) -> None:
    told = await host.exec("sh", "-c", r"printf '\377'; echo fine >&2")
    assert told["encoding"] == "base64"
    assert base64.b64decode(told["stdout"]) == b"\xff"
    assert base64.b64decode(told["stderr"]) == b"fine\n"


async def test_no_shell_reads_the_arguments(host: ApiHost) -> None:
    told = await host.exec("printf", "%s|", "$HOME", "a b", "'")
    assert told["stdout"] == "$HOME|a b|'|"


async def test_environment_and_directory_are_what_was_asked_for(host: ApiHost) -> None:
    told = await host.exec("sh", "-c", "pwd; echo $A-$FROM_SANDBOX", cwd="/tmp", env={"A": "a b&c"})
    assert told["stdout"] == "/tmp\na b&c-yes\n"
    answer = await host.post("/exec", cmd="sh", args=["-c", "echo $A"], envs={"A": "1"}, timeout_sec=5)
    assert answer.json()["stdout"] == "1\n"


async def test_the_directory_is_home_where_none_is_named(host: ApiHost, guest: LiveGuest) -> None:
    assert (await host.exec("pwd"))["stdout"] == f"{guest.home}\n"


async def test_standard_input_is_what_was_sent_and_ends(host: ApiHost) -> None:
    sent = bytes(range(256)) * 1000
    told = await host.exec("sh", "-c", "cat | wc -c", stdin=base64.b64encode(sent).decode())
    assert told["stdout"].strip() == str(len(sent))
    assert (await host.exec("cat"))["stdout"] == ""


async def test_input_that_is_not_read_holds_up_nothing(host: ApiHost) -> None:
    told = await host.exec("echo", "done", stdin=base64.b64encode(bytes(500_000)).decode())
    assert told["stdout"] == "done\n"


async def test_an_end_by_a_signal_is_told_in_each_ones_words(host: ApiHost) -> None:
    told = await host.exec("sh", "-c", "kill -9 $$")
    assert (told["exit_code"], told["signal"]) == (None, 9)
    answer = await host.post("/exec", cmd="sh", args=["-c", "kill -9 $$"])
    assert answer.json()["exit_code"] == -1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"argv": ["sh", "-c", "sleep 1000 & sleep 1000"], "timeout_seconds": 0.2}, 504, "timeout"),
        ({"cmd": "sh", "args": ["-c", "sleep 1000 & wait"], "timeout_sec": 0.2}, 502, "agent_error"),
    ],
)
async def test_a_command_that_runs_too_long_is_killed_with_all_that_it_started(
    host: ApiHost, guest: LiveGuest, body: dict[str, object], status: int, code: str
) -> None:
    answer = await host.post("/exec", **body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "0.2 s" in answer.json()["error"]["message"]
    assert not guest.runs("sleep", "1000")


async def test_a_command_that_writes_too_much_is_killed_and_the_bound_named(guest: LiveGuest) -> None:
    async with api_host(guest, ApiTerms(output_bytes=100_000)) as host:
        answer = await host.post("/exec", argv=["cat", "/dev/zero"])
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"
        assert "100000 bytes to standard output" in answer.json()["error"]["message"]
        assert len((await host.exec("head", "-c", "100000", "/dev/zero"))["stdout"]) == 100_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "cmd is missing"),
        ({"cmd": ""}, "no program is named"),
        ({"argv": []}, "no program is named"),
        ({"argv": "ls"}, "argv is no list of text"),
        ({"argv": ["ls", 1]}, "argv[1] is no text"),
        ({"argv": ["ls\0"]}, "argv[0] has a NUL character"),
        ({"cmd": "ls", "args": [None]}, "args[0] is no text"),
        ({"argv": ["ls"], "env": ["A"]}, "env is no object of text"),
        ({"argv": ["ls"], "env": {"A=B": "x"}}, 'env has a variable of the name "A=B"'),
        ({"argv": ["ls"], "env": {"A": 1}}, "env.A is no text"),
        ({"argv": ["ls"], "timeout_seconds": -1}, 'timeout_seconds is "-1", not 0 to 86400'),
        ({"argv": ["ls"], "timeout_seconds": 1e9}, "not 0 to 86400"),
        ({"argv": ["ls"], "timeout_seconds": "1"}, "timeout_seconds is no number of seconds"),
        ({"argv": ["ls"], "stdin": "%"}, "stdin is no base64"),
        ({"argv": ["ls"], "background": 1}, "background is neither true nor false"),
        ({"argv": ["ls"], "background": True, "tag": "1234"}, 'tag "1234"'),
        ({"argv": ["ls"], "background": True, "tag": "a/b"}, 'tag "a/b"'),
    ],
)
async def test_what_is_no_command_is_refused_by_the_members_name(
    host: ApiHost, body: dict[str, object], message: str
) -> None:
    answer = await host.post("/exec", **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[]", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff", 400),
        (b'"', 400),
        (b" " * 1_100_000, 413),
        (b'{"argv":["\\ud800"]}', 400),
    ],
)
async def test_what_is_no_json_object_is_refused(host: ApiHost, content: bytes, status: int) -> None:
    answer = await host.http.post("/exec", content=content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("missing", [{"cwd": "/no/such/directory"}, {"argv": ["/no/such/program"]}])
async def test_a_program_or_directory_that_is_missing_is_an_error(
    host: ApiHost, missing: dict[str, object]
) -> None:
    answer = await host.post("/exec", **{"argv": ["pwd"], **missing})
    assert 400 <= answer.status_code < 600
    assert "/no/such" in answer.json()["error"]["message"]


async def test_a_sandbox_that_is_not_here_or_does_not_run_is_told_apart(host: ApiHost) -> None:
    async def error(path: str) -> tuple[int, str]:
        answer = await host.http.post(f"http://host/sandboxes/{path}/exec", json={"argv": ["true"]})
        return answer.status_code, answer.json()["error"]["code"]

    assert await error("cl-" + "0" * 25) == (404, "not_found")
    assert await error("cl-" + "z" * 25) == (400, "invalid_request")
    await host.sandboxes.pause(host.id)
    assert await error(host.id) == (409, "invalid_state")


@pytest.mark.parametrize("size", [100_000, 140_000, 300_000])
async def test_arguments_beyond_what_the_system_takes_are_refused_by_name(host: ApiHost, size: int) -> None:
    answer = await host.post("/exec", argv=["true", "x" * size])
    if size == 100_000:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_much_output_is_answered_byte_for_byte_in_either_encoding(host: ApiHost) -> None:
    script = "import sys; sys.stdout.write('\\0\"\\\\\\n\u00e4\U0001f600' * 60_000)"
    told = await host.exec(sys.executable, "-c", script)
    assert told["encoding"] == "utf-8" and told["stdout"] == '\0"\\\n\u00e4\U0001f600' * 60_000
    assert (told["stderr"], told["exit_code"], told["signal"]) == ("", 0, None)
    told = await host.exec("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' '\\377'; echo x >&2")
    assert told["encoding"] == "base64"
    assert base64.b64decode(told["stdout"]) == b"\xff" * 1_000_000
    assert base64.b64decode(told["stderr"]) == b"x\n"


async def test_output_that_is_long_to_encode_holds_up_nobody_else(host: ApiHost) -> None:
    turns, over = 0, asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0)

    size = 4_000_000
    beside = asyncio.create_task(others())
    ran = Ran(bytes(size), b"", Exited(0, None, False), 1)
    answer = await outcome.answer({"cmd": "x"}, ran, {})
    assert isinstance(answer, StreamingResponse)
    body = b"".join([piece async for piece in answer.body_iterator if isinstance(piece, bytes)])
    over.set()
    await beside
    assert json.loads(body)["stdout"] == "\0" * size
    assert turns > size // outcome.PIECE


async def test_what_all_commands_wrote_together_has_a_bound_and_is_let_go_of(guest: LiveGuest) -> None:
    async with api_host(guest, ApiTerms(outputs_bytes=300_000)) as host:
        for _ in range(3):
            assert len((await host.exec("head", "-c", "250000", "/dev/zero"))["stdout"]) == 250_000
            answer = await host.post("/exec", argv=["head", "-c", "400000", "/dev/zero"])
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "no_hosts_available"
            assert "more than 300000 bytes" in answer.json()["error"]["message"]
