"""The page of sandboxes, as a reader does it; its sandboxes are plain processes here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hosted import hosted
from tests.kit.programs import Edge
from tests.system.test_howto import commands, programs, shell

PAGE = "sandboxes.md"

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with hosted(tmp_path_factory.mktemp("howto") / ".wellhead", runtime="process") as edge:
        yield edge


def test_the_commands_of_the_page(edge: Edge, tmp_path: Path) -> None:
    script = commands("sandboxes.md", edge)
    # The server runs already, and a shell is for a terminal: its tests are its own.
    for elsewhere in ("wellhead up --with-host", "wellhead sandbox shell $ID"):
        assert f"\n{elsewhere}\n" in script
        script = script.replace(f"\n{elsewhere}\n", "\n")
    out = shell(script, edge, tmp_path, 150)  # two dozen commands
    assert "hello from " in out and "\n2\n" in out and "\n1\n2\n3\n" in out
    assert "background  count" in out and "is gone" in out
    assert (tmp_path / "copied" / "note").read_text() == "text\n"
    assert "template with-notes" in out and re.search(r"server +https://localhost:", out)
    assert re.search(r"second +(pending|offline|unreachable)", out)


def test_the_programs_of_the_page(edge: Edge, tmp_path: Path) -> None:
    outputs = []
    for program in programs(PAGE):
        (tmp_path / "program.py").write_text(program)
        outputs.append(shell(f"{sys.executable} program.py", edge, tmp_path))
    assert outputs[0].splitlines() == [
        "hello you",
        "5",
        "['note']",
        *outputs[0].splitlines()[3:-1],
        "0",
    ]
    assert outputs[1].splitlines()[0] == "['0\\n', '1\\n', '2\\n']" and "typed" in outputs[1]
