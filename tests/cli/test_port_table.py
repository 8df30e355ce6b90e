"""Ports as a table, and shown anew as they change."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from tests.kit.programs import environment, wellhead
from tests.kit.sandbox_server import HTTP_PORT, SandboxServer
from wellhead.cli.port_table import Picture, port_table
from wellhead.client.sandbox_records import PortInfo
from wellhead.client.sandboxes import Sandbox
from wellhead.model.visibility import Visibility

LONG = PortInfo(
    80, "::", 1, "node", ["node", "x" * 200], visibility=Visibility.TEAM, url="https://80-cl-x.localhost"
)


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """stdout is one; gives what reads what was written to it."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as out, redirect_stdout(out):
        yield lambda: os.read(ours, 65536).decode().replace("\r\n", "\n")
    os.close(ours)


def test_what_is_not_known_is_left_out() -> None:
    assert port_table([PortInfo(80)])[1].split() == ["80"]
    assert port_table([PortInfo(80, command="node")])[1].split() == ["80", "node"]
    assert port_table([]) == ["nothing listens"]


def test_a_long_command_line_leaves_room_for_the_rest_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "x" * 200 in port_table([LONG])[1]
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal():
        assert max(map(len, lines := port_table([LONG]))) == 120 and "x…" in lines[1]
        monkeypatch.setenv("COLUMNS", "20")
        assert "  node xxxxxxxxxx…  1  " in port_table([LONG])[1]  # it stays to be recognized


def test_what_a_process_is_called_is_not_obeyed_by_a_terminal() -> None:
    assert "\x1b" not in port_table([PortInfo(80, argv=["\x1b[2J"])])[1]


def test_a_picture_takes_the_place_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    with terminal() as written:
        picture = Picture()
        picture.draw(["\x1b[1mtitle\x1b[0m", "x" * 25, ""])
        assert written() == "\x1b[1mtitle\x1b[0m\n" + "x" * 25 + "\n\n"
        picture.draw(["other"])  # back over 1 line, one that the terminal broke in 3, and 1 that is empty
        assert written() == "\x1b[5F\x1b[Jother\n"
        assert not picture.is_of_another_size()
        monkeypatch.setenv("COLUMNS", "11")
        assert picture.is_of_another_size()
        picture.draw(["other"])  # where it stands by now is not known
        assert written() == "\x1b[H\x1b[2Jother\n"
        picture.leave()
        assert written() == "\n"


def test_pictures_follow_each_other_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    picture = Picture()
    picture.draw(["one"])
    picture.draw(["two"])
    picture.leave()
    assert capsys.readouterr().out == "one\n\ntwo\n"


@contextmanager
def watching(variables: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    env = environment(Path(variables["WELLHEAD_HOME"])) | variables
    command = wellhead("sandbox", "ports", "--watch", *arguments)
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_ports_are_shown_as_they_open_and_close_until_it_is_interrupted(
    sandbox: Sandbox, sandboxes: SandboxServer, variables: dict[str, str]
) -> None:
    listening = sandboxes.sandboxes[sandbox.id].ports
    with watching(variables, "--json", sandbox.id) as running:
        assert running.stdout is not None
        assert [each["port"] for each in json.loads(running.stdout.readline())] == [8000]
        listening.append(HTTP_PORT | {"port": 9000})
        assert [each["port"] for each in json.loads(running.stdout.readline())] == [8000, 9000]
        listening.clear()
        assert json.loads(running.stdout.readline()) == []
        running.send_signal(signal.SIGINT)
        assert (running.stdout.read(), running.wait(20)) == ("", 0)


def test_a_sandbox_that_ends_is_watched_no_longer(sandbox: Sandbox, variables: dict[str, str]) -> None:
    with watching(variables, sandbox.id) as running:
        assert running.stdout is not None and running.stdout.readline().startswith("PORT  ADDRESS")
        sandbox.pause()
        while (line := running.stdout.readline()) != f"{sandbox.id} is paused\n":
            assert line
        sandbox.resume()
        while not (line := running.stdout.readline()).startswith("PORT"):
            assert line
        sandbox.destroy()
        assert running.stdout.read().endswith(f"\n{sandbox.id} is stopped\n")
        assert running.wait(20) == 0
