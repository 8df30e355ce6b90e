"""Programs without a terminal, in a real guest."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import psutil
import pytest

from tests.kit.guests import NAKED, Guest, guest_program, until_gone
from wellhead.guest.exec import KEPT
from wellhead.guest.source import MOMENT_SECONDS
from wellhead.guest.terms import PATH
from wellhead.wire.guest import PAYLOAD_MAX, GuestFrame, frame

MEBIBYTE = 1 << 20


def test_output_and_errors_are_told_apart_and_the_exit_comes_last(guest: Guest) -> None:
    ran = guest.sh("echo out; echo err >&2; exit 3")
    assert (ran.out, ran.err) == (b"out\n", b"err\n")
    assert ran.exited == {"code": 3, "signal": None, "timed_out": False}


def test_bytes_that_are_no_text_arrive_as_they_are(guest: Guest) -> None:
    assert guest.sh(r"printf '\377\000\303'").out == b"\xff\x00\xc3"


def test_arguments_are_passed_as_they_are_and_no_shell_sees_them(guest: Guest) -> None:
    assert guest.run("printf", "%s|", "a b", "$HOME", "*", "é", "").out.decode() == "a b|$HOME|*|é||"


def test_a_program_finds_the_users_home_and_an_environment(guest: Guest) -> None:
    ran = guest.sh('echo "$PWD|$HOME|$USER|$LOGNAME|$PATH|$MINE"', env={"MINE": "yes"})
    fields = ran.out.decode().rstrip("\n").split("|")
    assert fields[:2] == [str(guest.home)] * 2
    assert fields[2] == fields[3] == guest.sh("id -un").out.decode().strip()
    assert fields[4:] == [PATH, "yes"]


def test_the_terms_environment_is_everybodys_and_a_calls_own_goes_over_it() -> None:
    terms = type(NAKED)(user=NAKED.user, env={"A": "1", "B": "1"}, chrooted=False, isolated=False)
    with guest_program(terms) as guest:
        assert guest.sh("echo $A$B", env={"B": "2"}).out == b"12\n"


def test_a_directory_is_absolute_or_the_homes(guest: Guest) -> None:
    (guest.home / "within").mkdir(exist_ok=True)
    assert guest.sh("pwd", cwd="/usr").out == b"/usr\n"
    for cwd in ("within", "~/within"):
        assert guest.sh("pwd", cwd=cwd).out.decode() == f"{guest.home}/within\n"


def test_standard_input_is_passed_on_and_ended(guest: Guest) -> None:
    with guest.call("exec", argv=["cat"], stdin=True) as call:
        call.message()
        call.input(b"one")
        assert call.frame() == (GuestFrame.OUTPUT, b"one")
        call.input(b"two")
        call.end()
        assert call.rest().out == b"two"


def test_much_input_arrives_whole_whatever_the_programs_pace(guest: Guest) -> None:
    data = os.urandom(2 * MEBIBYTE)
    frames = [frame(GuestFrame.INPUT, data[at : at + PAYLOAD_MAX]) for at in range(0, len(data), PAYLOAD_MAX)]
    with guest.call("exec", argv=["sh", "-c", "sleep 0.2; sha256sum"], stdin=True) as call:
        for each in frames:
            call.send(each)
        call.end()
        told = call.rest().out.decode().split()[0]
    assert told == hashlib.sha256(data).hexdigest()


def test_without_input_standard_input_has_ended(guest: Guest) -> None:
    assert guest.run("cat").exited["code"] == 0


def test_input_for_a_program_that_reads_none_is_let_go(guest: Guest) -> None:
    with guest.call(
        "exec", argv=["sh", "-c", "exec <&-; echo closed; read x < /dev/zero"], stdin=True
    ) as call:
        call.message()
        assert call.frame() == (GuestFrame.OUTPUT, b"closed\n")
        call.input(bytes(200_000))
        call.input(bytes(200_000))
        call.end()
    assert guest.ask("hello")["processes"] >= 0


def test_input_behind_its_end_is_refused(guest: Guest) -> None:
    with guest.call("exec", argv=["sleep", "60"], stdin=True) as call:
        pid = call.message()["started"]["pid"]
        call.end()
        call.input(b"late")
        assert call.rest().error["code"] == "invalid"
    until_gone(pid)


def test_all_that_was_written_is_told_to_a_reader_who_takes_its_time(guest: Guest) -> None:
    size = 100 * MEBIBYTE
    with guest.call("exec", argv=["head", "-c", str(size), "/dev/zero"]) as call:
        call.message()
        time.sleep(0.3)  # not for luck: this is the slow reader
        memory = psutil.Process(guest.pid).memory_info().rss
        ran = call.rest()
    assert len(ran.out) == size
    assert memory < 100 * MEBIBYTE
    assert ran.exited["code"] == 0


def test_a_reader_that_takes_nothing_holds_the_program_and_not_the_memory(guest: Guest) -> None:
    before = psutil.Process(guest.pid).memory_info().rss
    with guest.call("exec", argv=["sh", "-c", "echo $$; exec cat /dev/zero"]) as call:
        pid = call.message()["started"]["pid"]
        program = psutil.Process(pid)
        written = -1
        while (now := program.io_counters().write_chars) != written or now == 0:
            written = now
            time.sleep(0.1)  # until it writes no more
        assert written < 2 * MEBIBYTE
        assert psutil.Process(guest.pid).memory_info().rss - before < 4 * MEBIBYTE
    until_gone(pid)


def test_the_exit_does_not_wait_for_those_who_hold_the_pipes(guest: Guest) -> None:
    began = time.monotonic()
    ran = guest.sh("sleep 600 & echo $!; exit 7")
    survivor = int(ran.out)
    try:
        assert ran.exited["code"] == 7
        assert time.monotonic() - began < 60
        assert psutil.pid_exists(survivor)
        assert survivor not in [each["pid"] for each in guest.listed()]
    finally:
        os.kill(survivor, 9)


def test_what_survivors_write_within_a_moment_is_told_and_later_they_may_write_still(
    guest: Guest, tmp_path: Path
) -> None:
    proof = tmp_path / "lives"
    late = f"sleep {MOMENT_SECONDS * 3}; echo late; echo much later >&2; echo yes > {proof}"
    ran = guest.sh(f"({late}) & echo $!; exit 0")
    until_gone(int(ran.out))
    assert ran.err == b""
    assert proof.read_text() == "yes\n"  # nobody reads it any more, and it did not die of that


def test_a_program_that_closes_its_pipes_is_waited_for(guest: Guest) -> None:
    ran = guest.sh("echo first; exec >&- 2>&-; sleep 0.2; exit 9")
    assert ran.out == b"first\n"
    assert ran.exited["code"] == 9


def test_a_signal_that_killed_it_is_told(guest: Guest) -> None:
    assert guest.sh("kill -TERM $$").exited == {"code": None, "signal": 15, "timed_out": False}


def test_time_out_kills_all_that_it_started(guest: Guest) -> None:
    with guest.call(
        "exec", argv=["sh", "-c", "setsid sleep 600 & echo $!; wait"], timeout_seconds=0.3
    ) as call:
        ran = call.rest()
    assert ran.exited == {"code": None, "signal": 9, "timed_out": True}
    until_gone(int(ran.out))


@pytest.mark.parametrize("stdin", [False, True])
def test_a_host_that_leaves_kills_all_that_it_started(guest: Guest, stdin: bool) -> None:
    with guest.call("exec", argv=["sh", "-c", "setsid sleep 600 & echo $!; wait"], stdin=stdin) as call:
        leader = call.message()["started"]["pid"]
        found = call.frame()
        assert found is not None
        if stdin:  # which nobody reads, so that frames lie before the end of the connection
            call.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    call.sock.send(frame(GuestFrame.INPUT, bytes(60_000)))
    until_gone(leader)
    until_gone(int(found[1]))


@pytest.mark.parametrize(
    ("members", "code", "word"),
    [
        ({"argv": ["no-such-program"]}, "not_found", "no-such-program"),
        ({"argv": ["/etc/passwd"]}, "forbidden", "/etc/passwd"),
        ({"argv": []}, "invalid", "argv"),
        ({"argv": [""]}, "invalid", "argv"),
        ({"argv": "ls"}, "invalid", "argv"),
        ({"argv": ["a\0b"]}, "invalid", "NUL"),
        ({"argv": ["true"], "env": {"A": "x\0y"}}, "invalid", "NUL"),
        ({"argv": ["true"], "env": {"A=B": "x"}}, "invalid", "A=B"),
        ({"argv": ["true"], "env": {"": "x"}}, "invalid", "empty"),
        ({"argv": ["true"], "env": {"A": 1}}, "invalid", "env"),
        ({"argv": ["\ud800"]}, "invalid", "Unicode"),
        ({"argv": ["true", "x" * 200_000]}, "too_large", "true"),
        ({"argv": ["true"], "cwd": "/no/such"}, "not_found", "/no/such"),
        ({"argv": ["true"], "cwd": "/etc/passwd"}, "not_found", "directory"),
        ({"argv": ["true"], "user": "nobody-here"}, "not_found", "nobody-here"),
        ({"argv": ["true"], "timeout_seconds": 0}, "invalid", "timeout_seconds"),
        ({"argv": ["true"], "timeout_seconds": True}, "invalid", "timeout_seconds"),
        ({"argv": ["true"], "tag": "123"}, "invalid", "123"),
        ({"argv": ["true"], "tag": "a b"}, "invalid", "a b"),
        ({"argv": ["true"], "tag": "x" * 129}, "invalid", "xxx"),
        ({"argv": ["true"], "stdin": "yes"}, "invalid", "stdin"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(
    guest: Guest, members: dict[str, object], code: str, word: str
) -> None:
    told, message = guest.refuses("exec", **members)
    assert told == code
    assert word in message
    assert guest.listed() == []


def test_a_script_without_an_interpreter_is_no_program(guest: Guest) -> None:
    script = guest.home / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    assert guest.refuses("exec", argv=[str(script)])[0] == "invalid"


def test_descriptors_of_the_guest_are_not_the_programs(guest: Guest) -> None:
    with guest.call("terminal", argv=["sleep", "600"], tag="other"):
        names = guest.sh("ls /proc/$$/fd").out.split()
        assert sorted(int(name) for name in names) == [0, 1, 2]
        guest.ask("signal", selector="other", signal="KILL")


LIBRARYS = 3 << 31  # signals 32 and 33: the C library lets nobody change them, whoever began us


def test_signals_are_as_a_new_program_expects_them(guest: Guest) -> None:
    status = guest.run("cat", "/proc/self/status").out.decode()
    ignored = [line for line in status.splitlines() if line.startswith(("SigIgn", "SigBlk"))]
    assert [int(line.split()[1], 16) & ~LIBRARYS for line in ignored] == [0, 0]


def test_a_program_goes_before_the_guest_where_memory_ends(guest: Guest) -> None:
    own = int(Path(f"/proc/{guest.pid}/oom_score_adj").read_text())
    assert int(guest.run("cat", "/proc/self/oom_score_adj").out) == min(own + 900, 1000)


def test_background_output_is_kept_and_told_to_who_comes_later(guest: Guest) -> None:
    started = guest.start("echo one; echo two >&2; read x", tag="later")
    assert started["tag"] == "later"
    until_gone(started["pid"])
    with guest.call("attach", selector="later", after=0) as call:
        assert call.message() == {"attached": {"pid": started["pid"], "tag": "later", "next": 0, "lost": 0}}
        ran = call.rest()
    assert (ran.out, ran.err) == (b"one\n", b"two\n")
    assert ran.exited["code"] == 1
    assert "later" not in [each["tag"] for each in guest.listed()]


def test_who_attaches_later_is_told_what_is_gone(guest: Guest) -> None:
    size = 2 * KEPT
    started = guest.start(f"head -c {size} /dev/zero")
    assert started["tag"].startswith("proc-")
    until_gone(started["pid"])
    with guest.call("attach", selector=str(started["pid"]), after=100) as call:
        about = call.message()["attached"]
        assert (about["next"], about["lost"]) == (size - KEPT, size - KEPT - 100)
        assert len(call.rest().out) == KEPT


def test_leaving_an_attach_kills_nothing(guest: Guest) -> None:
    started = guest.start("echo here; exec sleep 600")
    with guest.call("attach", selector=started["tag"], after=0) as call:
        call.message()
        assert call.frame() == (GuestFrame.OUTPUT, b"here\n")
    assert started["pid"] in [each["pid"] for each in guest.listed()]
    guest.ask("signal", selector=started["tag"], signal="KILL")
    until_gone(started["pid"])


def test_a_background_process_is_not_held_up_by_who_looks_on(guest: Guest) -> None:
    fifo = guest.home / "go"
    os.mkfifo(fifo)
    started = guest.start(f"read x < {fifo}; head -c {4 * MEBIBYTE} /dev/zero; exit 4", tag="watched")
    with guest.call("attach", selector="watched", after=0) as call:
        call.message()
        fifo.write_text("\n")
        until_gone(started["pid"])
        ran = call.rest()
    lost = sum(each.get("lost", 0) for each in ran.messages)
    assert len(ran.out) + lost == 4 * MEBIBYTE
    assert lost > 0
    assert ran.exited["code"] == 4


def test_numbers_beyond_what_was_written_are_refused(guest: Guest) -> None:
    started = guest.start("printf abc; exec sleep 600")
    assert guest.refuses("attach", selector=started["tag"], after=10**9)[0] == "invalid"
    assert guest.refuses("attach", selector=started["tag"], after=-1)[0] == "invalid"
    guest.ask("signal", selector=started["tag"], signal="KILL")
