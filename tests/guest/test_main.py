"""The guest's door: what it takes, what it refuses, and what it must have with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.guests import NAKED, Guest, guest_program
from wellhead.errors import InputError
from wellhead.guest.terms import GuestTerms
from wellhead.version import VERSION
from wellhead.wire.guest import GuestFrame, frame, message

# What a sandbox's guest is: forked after all was imported, with nothing left to import from.
FORKED = """
import sys, socket, argparse
from wellhead.guest.main import preload, serve
from wellhead.guest.terms import GuestTerms
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
terms = GuestTerms.from_json(options["--terms"])
preload()
class Nothing:
    def find_spec(self, name, path=None, target=None):
        with open(terms.home + "/imported", "a") as file:
            file.write(name + "\\n")
        raise ImportError(name)
sys.meta_path[:] = [Nothing()]
sys.path.clear()
sys.exit(serve(socket.socket(fileno=int(options["--socket"])), terms))
"""


def test_it_says_who_it_is(guest: Guest) -> None:
    assert guest.ask("hello") == {"version": VERSION, "pid": guest.pid, "processes": 0}


@pytest.mark.parametrize("do", ["no-such-thing", "", None, 5, "run", "_hello"])
def test_what_it_does_not_know_is_refused(guest: Guest, do: object) -> None:
    with guest.call("hello") as call:
        call.answer()
    with guest.call(do) as call:  # type: ignore[arg-type]
        assert call.answer()["error"]["code"] == "invalid"


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, frame(GuestFrame.INPUT, b"x"), frame(GuestFrame.MESSAGE, b"{"),
     frame(GuestFrame.MESSAGE, b"[1]"), frame(GuestFrame.MESSAGE, b"[" * 100_000), b"\0\0\0\1\x09x",
     frame(GuestFrame.MESSAGE, b"\xff\xfe")],
)  # fmt: skip
def test_garbage_is_refused_and_harms_nobody(guest: Guest, garbage: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(guest.path))
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(60)
        assert b'"code":"invalid"' in sock.recv(65536)
    assert guest.ask("hello")["version"] == VERSION


def test_a_connection_that_says_nothing_holds_up_nobody(guest: Guest) -> None:
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as half:
        silent.connect(str(guest.path))
        half.connect(str(guest.path))
        half.sendall(message({"do": "hello"})[:7])
        assert guest.ask("hello")["version"] == VERSION


def test_connections_come_and_go_without_a_trace(guest: Guest) -> None:
    before = len(os.listdir(f"/proc/{guest.pid}/fd"))
    for _ in range(100):
        guest.ask("hello")
        guest.run("true")
        guest.ask("stat", path="/")
        with guest.call("hello"):
            pass
    while len(os.listdir(f"/proc/{guest.pid}/fd")) > before:
        guest.ask("hello")


def test_after_it_was_loaded_nothing_is_imported_any_more() -> None:
    with guest_program(program=["-c", FORKED]) as guest:
        guest.run("echo", "é")
        guest.refuses("exec", argv=["no-such"])
        guest.sh("sleep 5", timeout_seconds=0.05)
        started = guest.start("echo x; sleep 600", tag="one")
        guest.refuses("signal", selector="one", signal="NO")
        with guest.call("attach", selector="one", after=0) as call:
            call.message()
        with guest.call("terminal", argv=["sh", "-c", "read x"], columns=80, rows=24) as call:
            call.message()
            call.send(message({"resize": [90, 20]}))
            call.input(b"typed\n")
            call.rest()
        guest.ask("write", frame(GuestFrame.INPUT, b"x"), frame(GuestFrame.END), path="dir/file", size=1)
        with guest.call("read", path="dir/file") as call:
            call.rest()
        for do, members in (
            ("stat", {"path": "dir"}), ("list", {"path": "~", "depth": 3}), ("mkdir", {"path": "other"}),
            ("move", {"source": "dir", "target": "moved"}), ("remove", {"path": "moved", "recursive": True}),
            ("stat", {"path": "gone"}), ("processes", {}), ("ports", {}), ("nonsense", {}),
            ("write", {"path": "/dev/null"}), ("exec", {"argv": ["\ud800"]}), ("stat", {"path": "é\u2028"}),
        ):  # fmt: skip
            guest.ask(do, **members)
        guest.ask("signal", selector=str(started["pid"]), signal="KILL")
        assert not (guest.home / "imported").exists(), (guest.home / "imported").read_text()


def test_a_guest_takes_few_mebibytes_of_its_own(guest: Guest) -> None:
    guest.run("true")
    rollup = Path(f"/proc/{guest.pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    assert private < 40 * 1024  # KiB; alone, with the interpreter and all modules; forked it shares most


@pytest.mark.parametrize("terms", ["", "5", "{}5", '{"unknown": 1}', "[]"])
def test_terms_that_are_none_are_refused(terms: str) -> None:
    with pytest.raises(InputError):
        GuestTerms.from_json(terms)
    command = [sys.executable, "-m", "wellhead.guest", "--socket", "0", "--terms", terms]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "terms" in ran.stderr


def test_terms_survive_being_written() -> None:
    terms = GuestTerms("me", "/me", {"A": "b"}, 7, False, True, True, (1, 5))
    assert GuestTerms.from_json(terms.to_json()) == terms
    assert json.loads(NAKED.to_json())["chrooted"] is False
