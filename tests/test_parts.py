from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.__main__ import main

TESTS = """
from pathlib import Path

def test_good():
    pass

def test_slow_at_first():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        assert 0, "too slow"
"""
BAD = """
def test_bad():
    assert 0, "broken"
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of tests, in the directory where pytest is run."""
    for name, text in (("test_good.py", TESTS), ("test_bad.py", BAD), ("pytest.ini", "[pytest]")):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


def test_what_failed_once_is_done_once_more_and_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main({"small": ["test_good.py::test_good"], "real": ["test_good.py"]}, ["real"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^FLAKY test_good.py::test_slow_at_first: failed at first", out, re.M), out
    assert re.search(r"= 3 passed, 1 flaky in \S+ =+\n$", out), out


def test_what_fails_again_or_is_no_real_program_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert main({"small": ["test_good.py"], "real": ["test_bad.py"]}, ["real"]) == 1
    out = capfd.readouterr().out
    assert "once more: 1 of real programs" in out, out
    assert re.search(r"= 2 failed, 1 passed, 1 flaky in \S+ =+\n$", out), out


def test_many_failures_are_no_accident(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.__main__.FEW", 0)
    assert main({"small": ["test_good.py::test_good"], "real": ["test_good.py"]}, ["real"]) == 1
    assert re.search(r"= 1 failed, 2 passed in \S+ =+\n$", capfd.readouterr().out)
