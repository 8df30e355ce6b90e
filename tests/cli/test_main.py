from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run
from wellhead.version import VERSION


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out == f"wellhead {VERSION}\n"


def test_no_arguments_show_the_help_and_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["up", "http", "run", "serve", "demo"])
def test_help_says_what_a_command_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == ExitCode.OK
    assert f"Usage: wellhead {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["htp"], "no such command 'htp'. Did you mean 'http'?"),
        (["--verson"], "no such option: --verson"),
        (["http"], "missing argument 'PORT|HOST:PORT|URL'"),
        (["http", "8000", "--name"], "option '--name' requires an argument"),
        (["demo", "--twice"], "no such option: --twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ExitCode.USAGE
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {complaint}") and told.out == ""
    assert all(line.startswith(("error: ", "hint: ")) for line in told.err.splitlines())


def _with_no_reader(*command: str) -> tuple[int, str]:
    """Run a command whose stdout is a pipe that nobody reads any more; its exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    os.close(writer)
    return ended.returncode, ended.stderr


def test_a_reader_that_went_away_is_no_error() -> None:
    say = "from wellhead.cli.output import tell; tell('a'); tell('b')"
    assert _with_no_reader(sys.executable, "-c", say) == (0, "")
    assert _with_no_reader(sys.executable, "-m", "wellhead", "--version") == (0, "")


def test_a_closed_stdout_is_no_error(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "wellhead", "up", "--check"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_with_nothing_to_read_or_write_a_server_and_an_agent_work(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "wellhead", "demo", "--once"]
    env = {**os.environ, "WELLHEAD_HOME": str(tmp_path)}
    assert subprocess.run(command, env=env, timeout=60, check=False).returncode == 0


INTERRUPTED_WHILE_IT_READS_ITS_MODULES = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "wellhead.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from wellhead.__main__ import main
main()
"""


def test_ctrl_c_before_there_is_a_command_shows_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IT_READS_ITS_MODULES],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_an_encoding_that_lacks_a_character_is_no_error() -> None:
    say = "from wellhead.cli.output import speak_plainly, tell; speak_plainly(); tell('…4b7Q caf\xe9 \u4e2d')"
    ended = subprocess.run(
        [sys.executable, "-c", say],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (b"...4b7Q caf\xe9 \\u4e2d\n", b"")


def test_the_summary_of_every_command_fits_a_usual_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["tunnels"], ["keys"], ["profile"], ["service"]):
        assert run([*group, "--help"]) == ExitCode.OK
        assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
