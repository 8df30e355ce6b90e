"""What a host keeps of its sandboxes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from wellhead.host.ledger import Ledger, Line
from wellhead.model.sandboxes import new_sandbox_id

LINE = Line(template="minimal", timeout_seconds=60.0, started_at=1e9, env={"A": "1"})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_a_line_is_there_until_it_is_dropped(state: Path) -> None:
    ledger, sandbox = Ledger(state), new_sandbox_id()
    assert ledger.lines() == {}
    ledger.save(sandbox, LINE)
    assert Ledger(state).lines() == {sandbox: LINE}
    (path,) = (state / "ledger").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # what is in it may be secret
    ledger.drop(sandbox)
    ledger.drop(sandbox)
    assert Ledger(state).lines() == {}


def test_a_line_that_cannot_be_read_does_not_hide_the_others(state: Path) -> None:
    ledger, good, bad = Ledger(state), new_sandbox_id(), new_sandbox_id()
    ledger.save(good, LINE)
    ledger.save(bad, LINE)
    (state / "ledger" / f"{bad}.json").write_text("{")
    (state / "ledger" / "notes.json").write_text("{}")
    assert ledger.lines() == {good: LINE}
