"""Programs at a terminal, in a real guest: who looks, who looks no longer, and who never did."""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
import socket
import time

import psutil
import pytest

from tests.kit.guests import Call, Guest, guest_program, until_gone
from wellhead.guest.terminal import AHEAD, KEPT
from wellhead.wire.guest import GuestFrame, frame, message, read_message, read_numbered

MEBIBYTE = 1 << 20


def _open(guest: Guest, script: str, **members: object) -> tuple[Call, str, int]:
    """A terminal with a shell script in it: the call, its tag and its pid."""
    asked = {"argv": ["sh", "-c", script], "columns": 80, "rows": 24, **members}
    call = guest.call("terminal", **asked)
    started = call.message()["started"]
    return call, started["tag"], started["pid"]


def _attach(guest: Guest, tag: str, after: int | None) -> tuple[Call, dict[str, int]]:
    call = guest.call("terminal_attach", tag=tag, after=after)
    about: dict[str, int] = call.message()["attached"]
    return call, about


def _rest(call: Call, at: int) -> tuple[bytes, int, dict[str, object]]:
    """Output up to the end, how much was lost on the way, and how it ended; numbers must fit."""
    seen, lost = bytearray(), 0
    while (found := call.frame()) is not None:
        kind, payload = found
        if kind is GuestFrame.OUTPUT:
            number, data = read_numbered(payload)
            assert number == at
            at += len(data)
            seen += data
            continue
        told = read_message(payload)
        if "exited" in told:
            exited = told["exited"]
            assert isinstance(exited, dict)
            assert call.frame() is None
            return bytes(seen), lost, exited
        assert isinstance(told["lost"], int)
        lost += told["lost"]
        at += told["lost"]
    raise AssertionError("it ended without saying how")


def _kill(guest: Guest, tag: str) -> None:
    guest.ask("signal", selector=tag, signal="KILL")


def test_a_program_has_a_terminal_of_the_size_that_was_asked_for(guest: Guest) -> None:
    call, tag, _ = _open(guest, "tty; stty size; echo $TERM; exit 4", columns=101, rows=37)
    with call:
        seen, lost, exited = _rest(call, 0)
    lines = seen.decode().split("\r\n")
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:3] == ["37 101", "xterm-256color"]
    assert (lost, exited) == (0, {"code": 4, "signal": None, "timed_out": False})
    assert tag.startswith("pty-")


@pytest.mark.skipif(
    pwd.getpwuid(os.geteuid()).pw_shell.endswith(("nologin", "false")), reason="needs a user with a shell"
)
def test_without_a_program_it_is_the_users_shell(guest: Guest) -> None:
    with guest.call("terminal", argv=[], columns=80, rows=24, env={"PS1": "> "}) as call:
        call.message()
        call.input(b"exit 6\n")
        assert _rest(call, 0)[2]["code"] == 6


def test_it_is_a_controlling_terminal_and_its_keys_send_signals(guest: Guest) -> None:
    call, _, _ = _open(guest, "trap 'echo caught' INT; echo ready; while :; do sleep 0.01; done")
    with call:
        call.numbered_until(b"ready")
        call.input(b"\x03")
        call.numbered_until(b"caught")
        call.send(message({"kill": True}))
        while (found := call.frame()) is not None and found[0] is GuestFrame.OUTPUT:
            pass
        assert found is not None
        assert b'"signal":9' in found[1]


def test_resizing_is_told_to_the_program(guest: Guest) -> None:
    call, tag, _ = _open(guest, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done")
    with call:
        call.numbered_until(b"ready")
        call.send(message({"resize": [1000, 500]}))
        call.numbered_until(b"500 1000")
        call.send(message({"resize": [1, 1]}))
        call.numbered_until(b"1 1\r")
    other, about = _attach(guest, tag, None)
    other.sock.close()
    assert (about["columns"], about["rows"]) == (1, 1)
    _kill(guest, tag)


@pytest.mark.parametrize(("columns", "rows"), [(0, 24), (80, 0), (1001, 24), (80, 501), (-1, 24), (True, 24)])
def test_sizes_beyond_the_bounds_are_refused(guest: Guest, columns: int, rows: int) -> None:
    asked = {"argv": ["true"], "columns": columns, "rows": rows}
    assert guest.refuses("terminal", **asked)[0] == "invalid"
    call, tag, _ = _open(guest, "exec sleep 600")
    with call:
        call.send(message({"resize": [columns, rows]}))
        assert call.rest().error["code"] == "invalid"
    assert tag in [each["tag"] for each in guest.listed()]  # only the viewer was sent away
    _kill(guest, tag)


@pytest.mark.parametrize(
    "wrong", [message({"size": [80, 24]}), message({"resize": [80]}), frame(GuestFrame.END)]
)
def test_what_is_no_word_to_a_terminal_is_refused(guest: Guest, wrong: bytes) -> None:
    call, tag, _ = _open(guest, "exec sleep 600")
    with call:
        call.send(wrong)
        assert call.rest().error["code"] == "invalid"
    _kill(guest, tag)


def test_it_lives_on_unseen_and_nothing_is_missed(guest: Guest) -> None:
    call, tag, pid = _open(guest, "echo one; read x; echo two $x; exec sleep 600")
    with call:
        first, seen = call.numbered_until(b"one\r\n")
    assert first == 0
    again, about = _attach(guest, tag, len(seen))
    with again:
        assert (about["pid"], about["next"], about["lost"]) == (pid, len(seen), 0)
        again.input(b"typed\n")
        number, more = again.numbered_until(b"two typed\r\n")
        assert number == len(seen)
    everything, _ = _attach(guest, tag, 0)
    with everything:
        assert everything.numbered_until(b"two typed\r\n") == (0, seen + more)
    news, about = _attach(guest, tag, None)
    with news:
        assert about["next"] == len(seen + more)
        _kill(guest, tag)
        assert _rest(news, about["next"])[0] == b""


def test_what_is_gone_is_told_by_number(guest: Guest) -> None:
    size = KEPT + 300_000
    call, tag, _ = _open(
        guest, f"stty raw -echo; echo ready; read x; head -c {size} /dev/zero; exec sleep 600"
    )
    with call:
        _, seen = call.numbered_until(b"ready")
    typing, about = _attach(guest, tag, None)
    with typing:
        typing.input(b"\n")
    end = -1
    while about["next"] != end:  # until it writes no more
        end = about["next"]
        time.sleep(0.1)
        looking, about = _attach(guest, tag, None)
        looking.sock.close()
        if about["next"] < size:
            end = -1
    late, about = _attach(guest, tag, len(seen))
    with late:
        assert about["next"] == end - KEPT
        assert about["lost"] == end - KEPT - len(seen)
        _kill(guest, tag)
        assert len(_rest(late, about["next"])[0]) == KEPT


def test_a_flood_that_nobody_sees_neither_stops_nor_grows(guest: Guest) -> None:
    call, tag, pid = _open(guest, "echo ready; exec cat /dev/zero")
    with call:
        call.numbered_until(b"ready")
    memory = psutil.Process(guest.pid).memory_info().rss
    numbers = [0]
    while numbers[-1] < 20 * MEBIBYTE:
        looking, about = _attach(guest, tag, None)
        looking.sock.close()
        numbers.append(about["next"])
        assert guest.ask("hello")["version"]
    assert numbers == sorted(numbers)
    assert psutil.Process(guest.pid).memory_info().rss - memory < 8 * MEBIBYTE
    _kill(guest, tag)
    until_gone(pid)


def _stuck(guest: Guest, tag: str, after: int) -> Call:
    """A viewer that takes nothing after its attachment."""
    call = guest.call("terminal_attach", tag=tag, after=after)
    call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return call


def test_a_stuck_viewer_holds_up_no_other(guest: Guest) -> None:
    size = 8 * MEBIBYTE
    script = f"stty raw -echo; echo ready; read x; head -c {size} /dev/zero; printf done; exec sleep 600"
    call, tag, _ = _open(guest, script)
    with call, _stuck(guest, tag, 0) as stuck:
        _, seen = call.numbered_until(b"ready\n")
        memory = psutil.Process(guest.pid).memory_info().rss
        call.input(b"\n")
        number, data = call.numbered_until(b"done")
        assert number == len(seen)
        assert len(data) == size + len(b"done")
        assert psutil.Process(guest.pid).memory_info().rss - memory < 8 * MEBIBYTE
        about = stuck.message()["attached"]
        _kill(guest, tag)
        late, lost, _ = _rest(stuck, about["next"])
        assert len(late) + lost == len(seen) + len(data)
        assert lost > 0
        assert late.endswith(b"done")


def test_a_lone_stuck_viewer_slows_the_program_and_misses_nothing(guest: Guest) -> None:
    size = 4 * MEBIBYTE
    call, tag, pid = _open(guest, f"stty raw -echo; head -c {size} /dev/zero; printf done; exec sleep 600")
    with call:
        program = psutil.Process(pid)
        written = -1
        while (now := sum(each.io_counters().write_chars for each in program.children())) != written:
            written = now
            time.sleep(0.2)  # until it writes no more, for now
        assert written < AHEAD + 2 * MEBIBYTE
        _, data = call.numbered_until(b"done")
        assert len(data) >= size
    _kill(guest, tag)


def test_a_large_paste_arrives_whole_in_a_program_that_takes_its_time(guest: Guest) -> None:
    data = os.urandom(MEBIBYTE)
    target = guest.home / "pasted"
    script = f"stty raw -echo; echo ready; sleep 0.3; head -c {len(data)} > {target}; echo pasted"
    call, _, _ = _open(guest, script)
    with call:
        call.numbered_until(b"ready")
        for at in range(0, len(data), 50_000):
            call.input(data[at : at + 50_000])
        call.numbered_until(b"pasted")
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data).digest()


def test_what_was_typed_before_leaving_arrives(guest: Guest) -> None:
    data = os.urandom(300_000)
    target = guest.home / "left"
    fifo = guest.home / "left.go"
    os.mkfifo(fifo)
    script = f"stty raw -echo; echo ready; read x < {fifo}; head -c {len(data)} > {target}; exit 3"
    call, tag, _ = _open(guest, script)
    with call:
        call.numbered_until(b"ready")
        call.input(data[:200_000])
        call.input(data[200_000:])
    fifo.write_text("\n")
    again, about = _attach(guest, tag, 0)
    with again:
        assert _rest(again, about["next"])[2]["code"] == 3
    assert target.read_bytes() == data


def test_kill_overtakes_input_that_nobody_reads(guest: Guest) -> None:
    call, _, pid = _open(guest, "stty raw -echo; echo ready; exec sleep 600")
    with call:
        call.numbered_until(b"ready")
        call.input(bytes(200_000))
        call.send(message({"kill": True}))
        assert call.rest().exited["signal"] == signal.SIGKILL
    until_gone(pid)


def test_several_may_look_and_type(guest: Guest) -> None:
    call, tag, _ = _open(guest, "stty -echo; echo ready; read a; echo got $a; read b; echo got $b; exit 2")
    other, _ = _attach(guest, tag, 0)
    with call, other:
        for each in (call, other):
            each.numbered_until(b"ready")
        call.input(b"first\n")
        ends = []
        for each in (call, other):
            number, seen = each.numbered_until(b"got first\r\n")
            ends.append(number + len(seen))
        other.input(b"second\n")
        for each, end in zip((call, other), ends, strict=True):
            seen, _, exited = _rest(each, end)
            assert seen == b"got second\r\n"
            assert exited["code"] == 2


def test_one_that_ended_can_be_looked_at_for_a_while(guest: Guest) -> None:
    call, tag, pid = _open(guest, "echo words; exit 8")
    with call:
        _rest(call, 0)
    assert tag not in [each["tag"] for each in guest.listed()]
    more = [frame(GuestFrame.INPUT, b"nobody reads this"), message({"resize": [80, 24]})]
    with guest.call("terminal_attach", *more, tag=tag, after=0) as again:
        assert again.message()["attached"]["pid"] == pid
        assert _rest(again, 0)[::2] == (b"words\r\n", {"code": 8, "signal": None, "timed_out": False})


def test_those_who_hold_the_terminal_hold_the_exit_for_a_moment_only(guest: Guest) -> None:
    call, _, _ = _open(guest, "trap '' HUP; sleep 600 & echo pid $!; exit 5")
    with call:
        seen, _, exited = _rest(call, 0)
    assert exited["code"] == 5
    survivor = int(seen.split()[1])
    os.kill(survivor, signal.SIGKILL)


def test_nobody_and_those_without_a_terminal_are_not_found(guest: Guest) -> None:
    started = guest.start("exec sleep 600", tag="plain")
    for tag in ("plain", "no-such-tag", str(started["pid"])):
        code, told = guest.refuses("terminal_attach", tag=tag)
        assert code == "not_found"
        assert tag in told
    _kill(guest, "plain")


def test_numbers_that_were_never_written_are_refused(guest: Guest) -> None:
    call, tag, _ = _open(guest, "exec sleep 600")
    with call:
        assert guest.refuses("terminal_attach", tag=tag, after=1 << 60)[0] == "invalid"
        _kill(guest, tag)


def test_other_operations_go_on_beside_floods() -> None:
    with guest_program() as guest:
        calls = [_open(guest, "exec cat /dev/zero")[0] for _ in range(3)]
        for call in calls:
            call.sock.close()
        took = []
        for _ in range(20):
            began = time.monotonic()
            guest.ask("hello")
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 1.0
