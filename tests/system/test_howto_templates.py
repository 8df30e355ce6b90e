"""The how-to page of templates, on a machine where no host ever ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.programs import Edge
from tests.system.test_howto import commands, shell

pytestmark = pytest.mark.system
PAGE = "templates.md"


def test_templates(tmp_path: Path) -> None:
    with Edge(tmp_path / ".wellhead") as edge:
        _, *lines = commands(PAGE, edge).splitlines()
        out = "".join(shell(line, edge, tmp_path) for line in lines).splitlines()  # each has its time
        left = shell("wellhead template list", edge, tmp_path)
    (row,) = [line.split() for line in out if line.startswith("scripts ") and ":" in line]
    assert row[1] == "built"
    assert out.count("scripts: is as it would be built") == 1
    assert len([line for line in out if line.startswith("scripts: built in ")]) == 2
    assert out[-1] == "scripts is gone"
    assert left == "no templates\n"
