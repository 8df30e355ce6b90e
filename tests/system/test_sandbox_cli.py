"""``wellhead sandbox`` as a person uses it, at a server with a host; its sandboxes are plain processes."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hosted import START_SECONDS
from tests.kit.programs import Edge, environment, eventually, quiet_port, run, wellhead
from tests.kit.terminal_program import TerminalProgram
from tests.kit.tmux import Tmux

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SETTINGS = {"host_runtime": "process", "host_keep_sandboxes": True, "drain_seconds": 1}
LINES = 400
COUNT = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo all''told"


def server(home: Path, https: int = 0) -> Edge:
    edge = Edge(home, "--with-host", settings=SETTINGS, wait=False, https=f"127.0.0.1:{https}")
    try:
        return edge.ready(START_SECONDS)
    except BaseException:
        edge.kill()
        raise


class Restartable:
    """A server that comes back on its ports."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.edge = server(home)

    def restart(self) -> None:
        https = self.edge.https
        assert self.edge.stop() == 0
        self.edge.kill()
        self.edge = server(self.home, https)

    def said(self, *arguments: str) -> str:
        ended = run("sandbox", *arguments, home=self.home)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    up = Restartable(tmp_path_factory.mktemp("sandboxes") / "home")
    try:
        yield up
        for sandbox in up.said("list", "-q").split():
            if sandbox.startswith("cl-"):
                up.said("rm", sandbox, "--yes")
    finally:
        up.edge.kill()


@pytest.fixture
def sandbox(up: Restartable) -> str:
    return up.said("create", "minimal", "--quiet").strip()


def counted(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^line (\d+)\s*$", text, re.MULTILINE)]


@pytest.mark.needs("tmux")
def test_ports_are_watched_as_they_open_and_close(up: Restartable, sandbox: str, tmp_path: Path) -> None:
    port = str(quiet_port())
    url = f"https://{port}-{sandbox}.localhost:{up.edge.https}"
    assert up.said("url", sandbox, port) == f"{url}\n"
    bin = str(Path(sys.executable).parent)
    with Tmux(tmp_path, environment(up.home, PATH=f"{bin}:/usr/bin:/bin")) as at:
        at.resize(160, 30)
        at.type(f"python3 -m wellhead sandbox ports --watch {sandbox}; echo ended with $?")
        at.see("nothing listens")
        up.said("exec", "-d", "--tag", "web", sandbox, "--", "python3", "-m", "http.server", port)
        assert f"-m http.server {port} " in at.see(url)
        eventually(lambda: "nothing listens" not in at.text, 10)  # the screen is drawn line by line
        up.said("kill", sandbox, "web")
        assert url not in at.see("nothing listens")
        at.press("C-c")
        at.see("ended with 0")


@pytest.mark.needs("tmux")
def test_a_shell_is_left_and_found_again_behind_a_restart_with_nothing_lost(
    up: Restartable, sandbox: str, tmp_path: Path
) -> None:
    bin = str(Path(sys.executable).parent)
    env = environment(up.home, PATH=f"{bin}:/usr/bin:/bin")
    with Tmux(tmp_path, env) as at:
        at.type(f"python3 -m wellhead sandbox shell --tag mine -e PS1='there> ' {sandbox} -- sh -i")
        at.see("there>")
        at.type("stty size; printf 'gr\\303\\274\\303\\237e\\n'")
        at.see("30 100")
        at.see("grüße")
        at.type("echo 'ty''ped: äöü'")
        at.see("typed: äöü")
        at.resize(90, 25)
        at.type("until [ \"$(stty size)\" = '25 90' ]; do sleep 0.1; done; echo re''sized")
        at.see("resized")
        count = (
            f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo all''told"
        )
        at.type(count)
        at.see("line 20")
        at.press("C-p", "C-q")
        at.see(f"it runs on: wellhead sandbox shell --attach mine {sandbox}]")
        at.type("stty -a | grep -c -- ' icanon'")  # this terminal is as it was
        at.see("1")
        up.restart()
        at.type(f"python3 -m wellhead sandbox shell --attach mine {sandbox}; echo ended with $?")
        shown = at.see("alltold")
        assert counted(shown) == list(range(1, LINES + 1))
        at.type("exit 3")
        at.see("ended with 3")


def test_a_shell_attaches_by_itself_when_its_server_is_restarted(up: Restartable, sandbox: str) -> None:
    command = wellhead("sandbox", "shell", sandbox, "--", "sh", "-i")
    with TerminalProgram(command, environment(up.home, TERM="xterm")) as at:
        at.see(rb"leaves this terminal")
        at.type(COUNT.encode() + b"\n")
        at.see(rb"line 20\r\n")
        up.restart()
        at.type(b"echo ty''ped\n")
        at.see(rb"alltold")
        at.see(rb"typed")
        ours, pasting = (
            rb"\r\[[^\]]*\]\r\n",
            rb"\x1b\[\?2004[hl]\r?",
        )  # what else than the program's was shown
        text = re.sub(ours + rb"|" + pasting, b"", at.screen).replace(b"\r\n", b"\n").decode()
        assert counted(text) == list(range(1, LINES + 1))
        at.type(b"exit 5\n")
        assert at.ended() == 5 and at.modes() == at.before


def test_a_command_passes_bytes_and_ends_as_it_did(up: Restartable, sandbox: str, tmp_path: Path) -> None:
    ended = run("sandbox", "exec", "-e", "A=b", sandbox, "--", "sh", "-c", "echo $A; exit 4", home=up.home)
    assert (ended.returncode, ended.stdout) == (4, "b\n")
    ended = run("sandbox", "exec", "--timeout", "0.5", sandbox, "--", "sleep", "600", home=up.home)
    assert ended.returncode == 124
    tree = tmp_path / "tree"
    shutil.copytree(Path(__file__).parents[2] / "examples", tree)
    up.said("cp", str(tree), f"{sandbox}:there")
    up.said("cp", f"{sandbox}:there", str(tmp_path / "back"))
    names = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert names
    for name in names:
        assert (tmp_path / "back" / name).read_bytes() == (tree / name).read_bytes()


def test_a_background_process_is_seen_and_ended(up: Restartable, sandbox: str) -> None:
    up.said("exec", "-d", "--tag", "job", sandbox, "--", "sh", "-c", "echo begun; sleep 600")
    assert eventually(lambda: up.said("logs", sandbox, "job"), 20) == "begun\n"
    assert "background  job" in up.said("ps", sandbox)
    up.said("kill", sandbox, "job")
    eventually(lambda: "job" not in up.said("ps", sandbox), 20)
