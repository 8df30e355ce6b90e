"""``wellhead sandbox`` and ``wellhead host`` against a server of sandboxes in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.kit.programs import environment, wellhead
from wellhead.cli.exit import ExitCode
from wellhead.client import Client
from wellhead.client.sandboxes import Sandbox
from wellhead.model.sandboxes import new_sandbox_id


def command(
    variables: dict[str, str], *arguments: str, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    env = environment(Path(variables["WELLHEAD_HOME"])) | variables
    return subprocess.run(
        wellhead("sandbox", *arguments),
        env=env,
        input=stdin or b"",
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_sandboxs_life(client: Client, typed: Type) -> None:
    made = typed(
        "sandbox", "create", "python", "--memory", "1024", "--timeout", "600", "--label", "team=blue"
    )
    (id,) = {word for word in made.split() if word.startswith("cl-")}
    assert "status        running" in made and "1 CPU, 1024 MB" in made and '{"team": "blue"}' in made
    assert id in typed("sandbox", "list") and typed("sandbox", "info", id, "-q") == "running\n"
    assert "is paused; wellhead sandbox resume" in typed("sandbox", "pause", id)
    told = typed("sandbox", "pause", id, code=ExitCode.CONFLICT)
    assert told.endswith("hint: only one that runs can be paused\n")
    assert typed("sandbox", "resume", id) == f"{id} is running\n"
    assert typed("sandbox", "snapshot", id, "kept", "-q") == "kept\n"
    told = typed("sandbox", "rm", id, code=ExitCode.USAGE)
    assert "give --yes" in told
    assert typed("sandbox", "rm", id, "-y") == f"{id} is gone\n"
    assert json.loads(typed("sandbox", "info", id, "--json"))["status"] == "stopped"


def test_mistakes_are_told(sandbox: Sandbox, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*arguments: str, code: int = ExitCode.USAGE) -> str:
        return typed("sandbox", *arguments, code=code)

    assert 'error: "x" is not the id of a sandbox\nhint: `wellhead sandbox list`' in told("info", "x")
    unknown = new_sandbox_id()
    assert "the sandbox is not there" in told("info", unknown, code=ExitCode.NOT_FOUND)
    assert "a command is needed" in told("exec", sandbox.id)
    assert '"-e" stands behind the sandbox\'s id' in told("exec", sandbox.id, "-e", "A=b", "--", "true")
    assert "is not NAME=VALUE" in told("exec", "-e", "=x", sandbox.id, "true")
    assert "--timeout is for a command" in told("exec", "-d", "--timeout", "3", sandbox.id, "true")
    assert "no such option" in told("exec", "--what", sandbox.id, "true")
    assert "there is no terminal here" in told("shell", sandbox.id)
    assert "--replay is for --attach" in told("shell", "--replay", sandbox.id)
    assert "it takes no command" in told("shell", "--attach", "x", sandbox.id, "--", "sh")
    assert "one of both is in a sandbox" in told("cp", "a", "b")
    assert "names no path: " in told("cp", f"{sandbox.id}:", "b")
    assert '"nothing" is not the id' in told("cp", "nothing:/x", "b")
    assert "is not a signal" in told("kill", sandbox.id, "1", "-s", "NOPE")
    assert "is not there" in told("logs", sandbox.id, "nobody", code=ExitCode.NOT_FOUND)


def test_exec_passes_bytes_and_codes(sandbox: Sandbox, variables: dict[str, str]) -> None:
    line = "printf 'a\\377b'; echo err >&2; echo $A$B; exit 3"
    env = variables | {"B": "here"}
    done = command(env, "exec", "-e", "A=set ", "-e", "B", sandbox.id, "--", "sh", "-c", line)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"a\xffbset here\n", b"err\n")
    data = os.urandom(500_000)
    assert command(variables, "exec", sandbox.id, "cat", stdin=data).stdout == data
    done = command(variables, "exec", "--timeout", "0.3", sandbox.id, "--", "sleep", "60")
    assert done.returncode == 124 and b"did not end within 0.3 s" in done.stderr
    done = command(variables, "exec", sandbox.id, "--", "sh", "-c", "kill -9 $$")
    assert done.returncode == 137
    told = json.loads(command(variables, "exec", "--json", sandbox.id, "echo", "x").stdout)
    assert told == {"stdout": "x\n", "stderr": "", "encoding": "utf-8", "exit_code": 0, "signal": None}


def test_what_ends_exec_ends_the_command(sandbox: Sandbox, variables: dict[str, str]) -> None:
    env = environment(Path(variables["WELLHEAD_HOME"])) | variables
    line = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        wellhead("sandbox", "exec", sandbox.id, "--", "sh", "-c", line),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == b"caught\n"
        assert running.wait(20) == 9


def test_a_reader_that_went_away_ends_the_command(sandbox: Sandbox, variables: dict[str, str]) -> None:
    env = environment(Path(variables["WELLHEAD_HOME"])) | variables
    running = subprocess.Popen(
        wellhead("sandbox", "exec", sandbox.id, "--", "yes"),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with running:
        assert running.stdout is not None and running.stdout.read(2) == b"y\n"
        running.stdout.close()
        assert running.wait(20) == 0
    deadline = time.monotonic() + 20
    while sandbox.processes.list():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_background_process(sandbox: Sandbox, typed: Type) -> None:
    line = "echo one; echo two >&2; exec sleep 60"
    assert typed("sandbox", "exec", "-d", "--tag", "job", "-q", sandbox.id, "--", "sh", "-c", line) == "job\n"
    deadline = time.monotonic() + 20
    while "one" not in (told := typed("sandbox", "logs", sandbox.id, "job")):
        assert time.monotonic() < deadline
    assert told == "one\n"
    listed = typed("sandbox", "ps", sandbox.id)
    assert "background" in listed and "job" in listed and "sh -c 'echo one; " in listed
    typed("sandbox", "kill", sandbox.id, "job", "-s", "TERM")
    assert typed("sandbox", "logs", "-f", sandbox.id, "job") == "one\n"
    assert typed("sandbox", "ps", sandbox.id) == "nothing was started, or it ended\n"


def test_the_log_of_a_terminal(sandbox: Sandbox, typed: Type) -> None:
    with sandbox.terminal(tag="mine") as terminal:
        terminal.send(b"shown")
        assert terminal.read() == b"shown"
    assert typed("sandbox", "logs", sandbox.id, "mine") == "shown"
    with sandbox.attach_terminal("mine", after=None) as terminal:
        terminal.kill()
        assert terminal.read() == b""
    assert typed("sandbox", "logs", "-f", sandbox.id, "mine") == "shown"


def test_cp(sandbox: Sandbox, typed: Type, variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "here" / "in").mkdir(parents=True)
    (tmp_path / "here" / "in" / "file").write_text("text")
    (tmp_path / "here" / "link").symlink_to("in/file")
    typed("sandbox", "cp", str(tmp_path / "here"), f"{sandbox.id}:/there")
    assert sandbox.files.read_text("/there/in/file") == "text"
    typed("sandbox", "cp", str(tmp_path / "here" / "in" / "file"), f"{sandbox.id}:/there/in/other")
    typed("sandbox", "cp", str(tmp_path / "here" / "in"), f"{sandbox.id}:/there/")  # into what is there
    assert sandbox.files.exists("/there/in/other") and sandbox.files.exists("/there/in/file")
    (tmp_path / "back").mkdir()
    typed("sandbox", "cp", f"{sandbox.id}:/there", str(tmp_path / "back"))
    assert (tmp_path / "back" / "there" / "link").read_text() == "text"
    typed("sandbox", "cp", f"{sandbox.id}:/there/in/file", str(tmp_path / "one"))
    assert (tmp_path / "one").read_text() == "text"
    data = os.urandom(300_000)
    assert command(variables, "cp", "-", f"{sandbox.id}:/stream", stdin=data).returncode == 0
    assert command(variables, "cp", f"{sandbox.id}:/stream", "-").stdout == data
    told = typed("sandbox", "cp", str(tmp_path / "none"), f"{sandbox.id}:/x", code=ExitCode.SETTINGS)
    assert "cannot read" in told


def test_hosts(client: Client, typed: Type) -> None:
    told = typed("host", "create-token", "big-one")
    assert "wht_EXAMPLE" in told and "wellhead host join --url" in told
    assert "big-one" in typed("host", "list") and "pending" in typed("host", "get", "big-one")
    assert typed("host", "drain", "big-one") == "big-one is draining\n"
    assert typed("host", "drain", "--undo", "big-one") == "big-one is online\n"
    assert "no host" in typed("host", "get", "other", code=ExitCode.NOT_FOUND)
    assert typed("host", "rm", "big-one", "-y") == "big-one is no host any more\n"
    assert typed("host", "list") == "no hosts\n"


def test_a_machine_that_is_no_host_says_so(client: Client, typed: Type, tmp_path: Path) -> None:
    assert "this machine is no host" in typed("host", "status", code=ExitCode.NOT_FOUND)
    told = typed("host", "run", code=ExitCode.SETTINGS)
    assert "hint: wellhead host join makes this machine a host" in told
    assert "a token is needed" in typed("host", "join", code=ExitCode.USAGE)
    assert "--log-level" in typed("host", "run", "--log-level", "loud", code=ExitCode.USAGE)
    assert "host_runtime" in typed("host", "run", "--runtime", "none", code=ExitCode.SETTINGS)


def test_templates(client: Client, typed: Type, tmp_path: Path) -> None:
    options = ("--state", str(tmp_path / "host"), "--runtime", "process")
    assert typed("template", "list", *options) == "no templates\n"
    assert "built in" in typed("template", "build", "minimal", *options)
    assert "is as it would be built" in typed("template", "build", "minimal", *options)
    assert [each["name"] for each in json.loads(typed("template", "list", "--json", *options))] == ["minimal"]
    assert "there is no recipe" in typed("template", "build", "what", *options, code=ExitCode.USAGE)
    assert typed("template", "rm", "minimal", "-y", *options) == "minimal is gone\n"
    assert "no template" in typed("template", "rm", "minimal", "-y", *options, code=ExitCode.NOT_FOUND)
