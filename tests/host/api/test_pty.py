"""Terminals in three dialects: what each says and hears, and what no terminal may be asked for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
from typing import Any

import pytest

from tests.kit.api_host import ApiHost, LiveGuest, Talk, api_host, live_guest
from wellhead.host.api.context import ApiTerms

OURS = "wellhead.terminal.1"
DIALECTS = ["legacy", "standard"]


class Terminal:
    """One of wrenn's dialects, as an SDK speaks it."""

    def __init__(self, talk: Talk, dialect: str) -> None:
        self.talk = talk
        self.legacy = dialect == "legacy"

    def type(self, data: bytes) -> None:
        if self.legacy:
            self.talk.say(type="input", data=base64.b64encode(data).decode())
        else:
            self.talk.write(data)

    async def output(self) -> Any:
        """The next message; output as bytes."""
        message = await self.talk.heard()
        if self.legacy and message["type"] == "output":
            return base64.b64decode(message["data"])
        return message

    async def until(self, wanted: bytes) -> bytes:
        """What came, up to where this stands in it."""
        seen = b""
        while wanted not in seen:
            message = await self.output()
            assert isinstance(message, bytes), (message, seen)
            seen += message
        return seen

    async def ended(self) -> tuple[bytes, Any]:
        """All output that follows, and how it ended."""
        seen = b""
        while isinstance(message := await self.output(), bytes):
            seen += message
        return seen, message


async def wrenn(host: ApiHost, dialect: str, **first: object) -> Terminal:
    talk = await host.open("/pty", dialect=dialect)
    talk.say(**{"type": "start", "cmd": "/bin/sh", **first})
    return Terminal(talk, dialect)


async def ours(host: ApiHost, **first: object) -> tuple[Talk, Any]:
    talk = await host.open("/pty", OURS)
    talk.say(**first)
    return talk, await talk.heard()


def output(messages: list[Any]) -> tuple[int, bytes]:
    """Where our dialect's output begins, and all of it, which has no gap."""
    pieces = [message for message in messages if isinstance(message, bytes)]
    begin = at = int.from_bytes(pieces[0][:8], "big")
    for piece in pieces:
        assert int.from_bytes(piece[:8], "big") == at
        at += len(piece) - 8
    return begin, b"".join(piece[8:] for piece in pieces)


async def seen(talk: Talk, wanted: bytes) -> tuple[int, bytes]:
    """Our dialect's output, up to where this stands in it."""
    messages: list[Any] = []
    while not messages or wanted not in output(messages)[1]:
        message = await talk.heard()
        assert isinstance(message, bytes), message
        messages.append(message)
    return output(messages)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_shell_is_typed_at_and_ends_with_its_code(host: ApiHost, dialect: str) -> None:
    terminal = await wrenn(host, dialect, cols=100, rows=30, envs={"A": "xyzzy"}, cwd="/tmp")
    started = await terminal.output()
    assert started["type"] == "started" and started["tag"].startswith("pty-") and started["pid"] > 0
    terminal.type(b"pwd; echo $A-$FROM_SANDBOX; stty size\n")
    text = await terminal.until(b"30 100")
    assert b"/tmp" in text and b"xyzzy-yes" in text
    terminal.type(b"exit 3\n")
    assert (await terminal.ended())[1] == {"type": "exit", "exit_code": 3}
    assert await terminal.talk.heard() == {"type": "closed", "code": 1000}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_resizing_reaches_the_program_and_a_zero_is_let_be(host: ApiHost, dialect: str) -> None:
    terminal = await wrenn(host, dialect)
    await terminal.output()
    for columns, rows in ((0, 40), (120, 0)):
        terminal.talk.say(type="resize", cols=columns, rows=rows)
    terminal.type(b"stty size\n")
    await terminal.until(b"24 80")
    terminal.talk.say(type="resize", cols=120, rows=40)
    terminal.type(b"stty size\n")
    await terminal.until(b"40 120")
    terminal.talk.say(type="resize", cols=10**6, rows=40)
    while isinstance(refused := await terminal.output(), bytes):
        pass
    assert refused["type"] == "error" and "fatal" not in refused and "1 to 1000" in refused["data"]
    terminal.type(b"stty size; exit\n")
    assert b"40 120" in (await terminal.ended())[0]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_killed_terminal_ends_with_minus_one_also_while_it_reads_nothing(
    host: ApiHost, dialect: str
) -> None:
    terminal = await wrenn(host, dialect, cmd="sleep", args=["5000"])
    await terminal.output()
    terminal.type(b"x" * 500_000)
    terminal.talk.say(type="kill")
    assert (await terminal.ended())[1] == {"type": "exit", "exit_code": -1}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_paste_of_a_mebibyte_arrives_whole_as_one_message(host: ApiHost, dialect: str) -> None:
    script = "stty raw -echo; echo go; head -c 1048576 | sha256sum"
    terminal = await wrenn(host, dialect, args=["-c", script])
    await terminal.output()
    await terminal.until(b"go")
    paste = random.Random(7).randbytes(1024 * 1024)
    terminal.type(paste)
    text, end = await terminal.ended()
    assert hashlib.sha256(paste).hexdigest().encode() in text and end["exit_code"] == 0


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_terminal_lives_on_without_viewers_and_is_connected_to_again(
    host: ApiHost, dialect: str
) -> None:
    terminal = await wrenn(host, dialect)
    started = await terminal.output()
    terminal.type(b"V=kept\n")
    await terminal.until(b"V=kept")
    terminal.talk.client.visit.stream.reset(1)
    again = await wrenn(host, dialect, type="connect", tag=started["tag"])
    assert await again.output() == started
    again.type(b"echo $V-$V; exit\n")
    text, _ = await again.ended()
    assert b"kept-kept" in text


async def test_every_viewer_sees_what_any_of_them_types(host: ApiHost) -> None:
    first = await wrenn(host, "standard")
    tag = (await first.output())["tag"]
    second = await wrenn(host, "legacy", type="connect", tag=tag)
    third, attached = await ours(host, type="attach", tag=tag)
    await second.output()
    assert attached["cols"] == 80 and attached["rows"] == 24
    second.type(b"echo a''bc\n")
    await first.until(b"abc")
    await second.until(b"abc")
    await seen(third, b"abc")
    first.talk.say(type="kill")
    assert (await second.ended())[1] == {"type": "exit", "exit_code": -1}
    assert (await third.until("exit"))[1] == {"type": "exit", "exit_code": None, "signal": 9}


async def test_a_terminal_may_be_named_and_no_two_alike(host: ApiHost) -> None:
    talk, started = await ours(host, type="start", argv=["cat"], tag="mine")
    assert started["tag"] == "mine"
    for tag, code in (("mine", "conflict"), ("12", "invalid_request")):
        _, error = await ours(host, type="start", argv=["cat"], tag=tag)
        assert (error["code"], error["fatal"]) == (code, True)
    talk.say(type="kill")
    await talk.until("exit")


async def test_whoever_comes_back_gets_exactly_what_was_missed(host: ApiHost) -> None:
    talk, started = await ours(host, type="start", argv=["/bin/sh"], envs={"PS1": "> "})
    talk.write(b"echo on''e\n")
    begin, text = await seen(talk, b"one")
    assert begin == 0
    talk.client.visit.stream.reset(1)
    other, _ = await ours(host, type="attach", tag=started["tag"], after=begin + len(text))
    other.write(b"echo tw''o; echo thre''e\n")
    _, missed = await seen(other, b"three")
    back, attached = await ours(host, type="attach", tag=started["tag"], after=begin + len(text))
    assert (attached["next"], attached["lost"]) == (begin + len(text), 0)
    at, again = await seen(back, b"three")
    size = min(len(missed), len(again))
    assert at == begin + len(text) and missed[:size] == again[:size] and b"two" in again


async def test_what_is_gone_is_told_in_bytes(host: ApiHost) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end; cat"
    talk, started = await ours(host, type="start", argv=["sh", "-c", script])
    messages: list[Any] = []
    while not messages or not messages[-1].endswith(b"end\r\n"):
        messages.append(await talk.heard())
    begin, text = output(messages)
    back, attached = await ours(host, type="attach", tag=started["tag"], after=0)
    assert attached["lost"] == attached["next"] > 1_000_000
    at, rest = await seen(back, b"end\r\n")
    assert at == attached["next"] and text[at:] == rest
    back.say(type="kill")


async def test_a_slow_viewer_holds_up_no_other_and_is_told_what_it_lost(host: ApiHost) -> None:
    script = "read x; head -c 8000000 /dev/zero | tr '\\0' y; echo; echo end; cat"
    fast, started = await ours(host, type="start", argv=["sh", "-c", script])
    slow, _ = await ours(host, type="attach", tag=started["tag"], after=0)
    slow.client.visit.holding = True
    fast.write(b"\n")
    at = 0
    while not (message := await fast.heard()).endswith(b"end\r\n"):
        assert int.from_bytes(message[:8], "big") == at
        at += len(message) - 8
    slow.client.visit.release()
    before, lost = await slow.until("lost")
    begin, early = output(before)
    assert begin == 0 and lost["bytes"] > 1_000_000 and lost["next"] == len(early) + lost["bytes"]
    assert (await seen(slow, b"end\r\n"))[0] == lost["next"]
    fast.say(type="kill")
    await slow.until("exit")


@pytest.mark.parametrize("subprotocol", ["", OURS])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "first",
    [
        '{"type":"resize","cols":80,"rows":24}', '{"type":"kill"}', "{", "[]", '"x"', "[" * 50_000, "{}",
        '{"type":"start","cols":1000000}', '{"type":"start","rows":-1}', '{"type":"start","cols":"80"}',
        '{"type":"start","cmd":7}', '{"type":"connect"}', '{"type":"connect","tag":"no such tag"}',
    ],
)  # fmt: skip
async def test_a_first_message_that_begins_nothing_is_fatal(
    host: ApiHost, dialect: str, subprotocol: str, first: str
) -> None:
    talk = await host.open("/pty", subprotocol, dialect)
    talk.client.say(first)
    error = await talk.heard()
    assert error["type"] == "error" and error["fatal"] is True
    assert await talk.heard() == {"type": "closed", "code": 1008}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_unknown_tag_is_a_fatal_error_and_the_end(host: ApiHost, dialect: str) -> None:
    terminal = await wrenn(host, dialect, type="connect", tag="pty-00000000")
    error = await terminal.output()
    assert error["fatal"] is True and "pty-00000000" in error["data"]
    assert await terminal.talk.heard() == {"type": "closed", "code": 1008}
    talk, error = await ours(host, type="attach", tag="pty-00000000")
    assert (error["code"], error["fatal"]) == ("not_found", True)
    assert await talk.heard() == {"type": "closed", "code": 1008}


async def test_input_before_the_first_message_is_fatal(host: ApiHost) -> None:
    talk = await host.open("/pty")
    talk.write(b"ls\n")
    assert (await talk.heard())["fatal"] is True


async def test_sizes_of_zero_are_refused_in_our_dialect(host: ApiHost) -> None:
    for size in ({"cols": 0}, {"rows": 0}, {"cols": 10**6}, {"rows": 501}):
        talk, error = await ours(host, type="start", argv=["true"], **size)
        assert (error["code"], error["fatal"]) == ("invalid_request", True)
        assert "not 1 to" in error["message"]
    talk, _ = await ours(host, type="start", argv=["cat"])
    talk.say(type="resize", cols=0, rows=24)
    error = await talk.heard()
    assert error["fatal"] is False and "0 columns, not 1 to 1000" in error["message"]
    talk.say(type="kill")
    await talk.until("exit")


@pytest.mark.parametrize("subprotocol", ["", OURS])
async def test_a_message_above_its_bound_is_named_and_ends_the_conversation(
    guest: LiveGuest, subprotocol: str
) -> None:
    async with api_host(guest, ApiTerms(paste_bytes=100_000)) as host:
        bound = 65536 if subprotocol else 100_000
        talk = await host.open("/pty", subprotocol)
        talk.say(type="start", cmd="cat")
        await talk.heard()
        talk.write(b"x" * (bound + 1))
        error = await talk.heard()
        assert error["fatal"] is True and f"at most {bound}" in json.dumps(error)
        assert await talk.heard() == {"type": "closed", "code": 1009}


async def test_a_ping_comes_by_itself_and_disturbs_nothing(guest: LiveGuest) -> None:
    async with api_host(guest, ApiTerms(ping_seconds=0.1)) as host:
        for dialect in DIALECTS:
            terminal = await wrenn(host, dialect)
            while (message := await terminal.output()) != {"type": "ping"}:
                pass
            terminal.talk.say(type="pong")
            terminal.type(b"echo still''-alive; exit\n")
            text = b""
            while not isinstance(message, dict) or message["type"] != "exit":
                text += message if isinstance(message, bytes) else b""
                message = await terminal.output()
            assert b"still-alive" in text


async def test_a_flood_of_output_waits_for_its_viewer(host: ApiHost) -> None:
    talk = await host.open("/pty")
    talk.client.visit.holding = True
    talk.say(type="start", cmd="sh", args=["-c", "head -c 5000000 /dev/zero | tr '\\0' y; exit 4"])
    await asyncio.sleep(0.2)
    assert len(talk.client.visit.body) < 2_000_000
    talk.client.visit.release()
    terminal = Terminal(talk, "standard")
    await terminal.output()
    text, end = await terminal.ended()
    assert text.count(b"y") == 5_000_000 and end["exit_code"] == 4


async def test_a_flood_of_input_waits_for_the_program(host: ApiHost) -> None:
    talk, _ = await ours(host, type="start", argv=["sh", "-c", "stty raw -echo; echo on; sleep 6000"])
    await seen(talk, b"on")
    sent, stream = 0, talk.client.visit.stream
    while sent < 64 * 1024 * 1024:
        talk.client.protocol.send_binary(bytes(60_000))
        room = stream.send(b"".join(talk.client.protocol.data_to_send()), False)
        sent += 60_000
        if not room:
            talk.client.visit.changed.clear()
            try:
                async with asyncio.timeout(0.5):
                    await talk.client.visit.changed.wait()
            except TimeoutError:
                break
    assert sent < 8 * 1024 * 1024
    tag = (await host.http.get("/processes")).json()["processes"][-1]["tag"]
    assert (await host.http.delete(f"/processes/{tag}")).status_code == 204
    assert (await talk.until("exit"))[1]["signal"] == 9


async def test_typing_and_output_count_as_activity(host: ApiHost) -> None:
    entry = host.table.entry(host.id)
    terminal = await wrenn(host, "standard", cmd="cat")
    await terminal.output()
    entry.last_active = 0.0
    terminal.type(b"x\n")
    await terminal.until(b"x")
    assert entry.last_active > 0
    terminal.talk.say(type="kill")
    await terminal.ended()


async def test_typing_behind_the_end_does_not_hide_the_exit(host: ApiHost) -> None:
    for _ in range(20):
        terminal = await wrenn(host, "standard", cmd="/bin/sh", args=["-c", "read x; exit 5"])
        for _ in range(50):
            terminal.type(b"x\n")
            await asyncio.sleep(0)
        end: Any = {"type": "started"}
        while isinstance(end, bytes) or end["type"] == "started":
            end = await terminal.output()
        assert end == {"type": "exit", "exit_code": 5}


async def test_a_guest_that_dies_is_a_fatal_error() -> None:
    with live_guest() as guest:
        async with api_host(guest) as host:
            talk, _ = await ours(host, type="start", argv=["cat"])
            guest.process.kill()
            while isinstance(error := await talk.heard(), bytes):
                pass
            assert error["type"] == "error" and error["fatal"] is True
            assert await talk.heard() == {"type": "closed", "code": 1011}
            answer = await host.post("/exec", argv=["true"])
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")
