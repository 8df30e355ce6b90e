"""``wellhead sandbox shell`` at a terminal, against a server of sandboxes in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.programs import environment, wellhead
from tests.kit.sandbox_server import KEY, Refusal, SandboxServer, Screen, Served, sandbox_server
from tests.kit.terminal_program import TerminalProgram
from wellhead.cli.shell_keys import Leaving
from wellhead.cli.shell_places import KEPT_MAX, Place, Places
from wellhead.cli.tty import Modes
from wellhead.client import Client
from wellhead.client.sandboxes import Sandbox
from wellhead.errors import InputError, LocalStateError

LEAVE = b"\x10\x11"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with sandbox_server(tmp_path_factory.mktemp("sandboxes")) as served:
        yield served


@pytest.fixture
def server(served: Served) -> SandboxServer:
    return served[0]


@pytest.fixture
def sandbox(served: Served) -> Iterator[Sandbox]:
    with Client(f"https://localhost:{served[1]}", KEY, ca_file=served[2]) as client:
        with client.sandboxes.create() as sandbox:
            yield sandbox


@pytest.fixture
def env(served: Served, tmp_path: Path) -> dict[str, str]:
    return environment(
        tmp_path / "home",
        WELLHEAD_URL=f"https://localhost:{served[1]}",
        WELLHEAD_API_KEY=KEY.reveal(),
        WELLHEAD_CA_FILE=str(served[2]),
        TERM="xterm",
    )


def shell(env: dict[str, str], *arguments: str) -> TerminalProgram:
    return TerminalProgram(wellhead("sandbox", "shell", *arguments), env)


def screen_of(server: SandboxServer, sandbox: Sandbox, tag: str) -> Screen:
    deadline = time.monotonic() + 20
    while tag not in (screens := server.sandboxes[sandbox.id].screens):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return screens[tag]


def test_keys_and_bytes_pass_as_they_are_and_the_exit_code_comes_back(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, "--tag", "mine", "-e", "A=b", "--cwd", "/", sandbox.id, "--", "top", "-x") as at:
        at.see(rb"Ctrl-P Ctrl-Q leaves this terminal")
        screen = screen_of(server, sandbox, "mine")
        assert screen.size == (100, 30) and screen.started["argv"] == ["top", "-x"]
        assert screen.started["cwd"] == "/"
        assert screen.started["envs"].items() >= {"TERM": "xterm", "A": "b"}.items()
        at.type("grüße\x03\x1a".encode())
        at.see("grüße\x03\x1a".encode())
        assert at.modes() != at.before
        at.resize(70, 20)
        at.type(b"x")
        at.see(rb"x$")
        deadline = time.monotonic() + 20
        while screen.size != (70, 20):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        at.type(b"\x04")
        assert at.ended() == 7
        assert at.modes() == at.before


def test_what_is_left_runs_on_and_is_found_where_it_was(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, "--tag", "mine", sandbox.id) as at:
        at.see(rb"leaves this terminal")
        at.type(b"one ")
        at.see(rb"one ")
        at.type(LEAVE)
        at.see(rb"it runs on: wellhead sandbox shell --attach mine " + sandbox.id.encode())
        assert at.ended() == 0 and at.modes() == at.before
    screen = screen_of(server, sandbox, "mine")
    assert screen.exit is None and bytes(screen.typed) == b"one "
    server.run(screen.write(b"meanwhile "))
    with shell(env, "--attach", "mine", sandbox.id) as at:
        at.see(rb"meanwhile ")
        at.type(b"two")
        at.see(rb"two")
        assert b"one" not in at.screen
        at.type(LEAVE)
        assert at.ended() == 0
    with shell(env, "--attach", "mine", "--replay", sandbox.id) as at:
        at.see(rb"one meanwhile two")
        at.type(b"\x04")
        assert at.ended() == 7
    assert not list((Path(env["WELLHEAD_HOME"]) / "terminals").glob("*.json"))


def test_a_connection_that_is_lost_for_a_while_costs_nothing(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, "--tag", "mine", sandbox.id) as at:
        at.see(rb"leaves this terminal")
        screen = screen_of(server, sandbox, "mine")
        server.refusal = Refusal(503, "host_unavailable", "its host is away")
        server.run(server.cut())
        server.run(screen.write(b"".join(b"<%d>" % number for number in range(5000))))
        at.see(rb"connection lost: 503: its host is away; trying again")
        at.type(b"typed meanwhile")
        server.refusal = None
        at.see(rb"attached again")
        at.see(rb"<4999>")
        at.see(rb"typed meanwhile")
        whole = b"".join(b"<%d>" % number for number in range(5000))
        shown = at.screen
        assert whole in shown.replace(b"\r[attached again]\r\n", b"").replace(b"typed meanwhile", b"")
        at.type(b"\x04")
        assert at.ended() == 7


def test_a_terminal_can_be_left_while_the_connection_is_lost(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, sandbox.id) as at:
        at.see(rb"leaves this terminal")
        server.refusal = Refusal(503, "host_unavailable", "its host is away")
        try:
            server.run(server.cut())
            at.see(rb"connection lost")
            at.type(LEAVE)
            at.see(rb"it runs on")
            assert at.ended() == 0 and at.modes() == at.before
        finally:
            server.refusal = None


def test_a_sandbox_that_is_paused_ends_the_view_with_its_reason(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, sandbox.id) as at:
        at.see(rb"leaves this terminal")
        sandbox.pause()
        server.run(server.cut())
        at.see(rb"error: the sandbox is paused")
        assert at.ended() == 8 and at.modes() == at.before


def test_what_a_program_switched_on_is_off_when_it_is_left(
    env: dict[str, str], sandbox: Sandbox, server: SandboxServer
) -> None:
    with shell(env, "--tag", "mine", sandbox.id) as at:
        at.see(rb"leaves this terminal")
        server.run(screen_of(server, sandbox, "mine").write(b"\x1b[?1049h\x1b[?1000;1006h\x1b[?25l"))
        at.see(rb"\x1b\[\?25l")
        at.type(LEAVE)
        at.see(rb"\x1b\[\?1000l\x1b\[\?1006l\x1b\[\?1049l\x1b\[\?25h")
        assert at.ended() == 0


def test_a_signal_leaves_the_terminal_as_it_was(env: dict[str, str], sandbox: Sandbox) -> None:
    with shell(env, sandbox.id) as at:
        at.see(rb"leaves this terminal")
        at.type(b"x")
        at.see(rb"x$")
        at.process.terminate()
        assert at.ended() == 143 and at.modes() == at.before


def test_keys_that_leave_are_told_from_those_that_only_begin_so() -> None:
    keys = Leaving.of("ctrl-p,ctrl-q")
    assert str(keys) == "Ctrl-P Ctrl-Q"
    told = [(*keys.take(typed), keys.holds) for typed in (b"a\x10", b"b", b"\x10")]
    assert told == [(b"a", False, True), (b"\x10b", False, False), (b"", False, True)]
    assert (keys.give_up(), keys.holds) == (b"\x10", False)
    assert keys.take(b"\x10\x10") == (b"\x10", False)
    assert keys.take(b"\x11rest") == (b"", True)
    assert Leaving.of("~").take(b"a~b") == (b"a", True)
    never = Leaving.of("none")
    assert never.take(b"\x10\x11") == (b"\x10\x11", False) and str(never) == ""
    for wrong in ("", "ctrl-", "ctrl-pq", "meta-x", "a,,b"):
        with pytest.raises(InputError, match="--escape"):
            Leaving.of(wrong)


def test_modes_are_followed_however_the_bytes_were_cut() -> None:
    text = b"a\x1b[?1049hb\x1b[?2004h\x1b[?25l\x1b[?1049lc\x1b[?7h"
    for at in range(len(text)):
        modes = Modes()
        modes.saw(text[:at])
        modes.saw(text[at:])
        assert modes.undo() == b"\x1b[?2004l\x1b[?25h\x1b[0m"
    assert Modes().undo() == b""


def test_places_of_terminals_are_kept_by_sandbox_and_tag(tmp_path: Path) -> None:
    places, place = Places(tmp_path / "home" / "terminals"), Place("cl-1", "../a b")
    assert places.find(place) is None
    places.keep(place, 12, 3456)
    (file,) = (tmp_path / "home" / "terminals").iterdir()
    assert places.find(place) == (12, 3456) and file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    assert places.find(place) is None
    places.forget(place)
    places.forget(place)
    for number in range(KEPT_MAX + 3):
        places.keep(Place("cl-1", str(number)), 1, 2)
    assert len(list((tmp_path / "home" / "terminals").iterdir())) == KEPT_MAX
    (tmp_path / "home" / "terminals").chmod(0o777)
    with pytest.raises(LocalStateError):
        places.keep(place, 1, 2)
