from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.kit.programs import Program, environment, run, wellhead
from wellhead.cli import demo
from wellhead.cli.exit import ExitCode
from wellhead.errors import UpstreamError


def test_once_shows_one_verified_round_trip_and_leaves_nothing(tmp_path: Path) -> None:
    ended = run("demo", "--once", home=tmp_path / "home", TMPDIR=str(tmp_path))
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert ended.stderr == ""
    steps = [line.split()[0] for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert steps == ["app", "server", "agent", "visitor", "visitor", "visitor", "done"]
    assert list(tmp_path.iterdir()) == []


def test_without_once_it_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    command = wellhead("demo")
    with Program(command, environment(tmp_path / "home", TMPDIR=str(tmp_path))) as program:
        program.line(r"^Ctrl-C ends it\.$")
        assert re.search(r"^    http://\S+\.localhost:\d+/$", program.text, re.MULTILINE)
        assert program.stop(signal.SIGINT) == ExitCode.OK
    assert list(tmp_path.iterdir()) == []


def test_what_came_back_changed_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="status of the page: expected 200, got 502"):
        demo._compare("status of the page", 502, 200)
