"""What a host's report makes of the records of its sandboxes."""

from __future__ import annotations

import pytest

from wellhead.model.reconciling import SETTLING_SECONDS, Kept, Move, Outcome, reconcile
from wellhead.model.sandboxes import SandboxId, SandboxStatus, new_sandbox_id

S = SandboxStatus
ID = new_sandbox_id()


def _after(
    status: SandboxStatus,
    says: SandboxStatus | None,
    *,
    age: float = 60.0,
    again: bool = False,
    busy: bool = False,
) -> Outcome:
    reported: dict[SandboxId, SandboxStatus] = {} if says is None else {ID: says}
    return reconcile([Kept(ID, status, age, busy)], reported, {ID} if again else set())


@pytest.mark.parametrize(
    ("status", "says"),
    [(S.RUNNING, S.PAUSED), (S.MISSING, S.RUNNING), (S.RUNNING, S.STOPPED), (S.PAUSED, S.RUNNING)],
)
def test_what_a_host_says_is_believed(status: SandboxStatus, says: SandboxStatus) -> None:
    assert _after(status, says).moves == [Move(ID, status, says)]


def test_a_report_that_may_be_older_than_the_record_changes_nothing() -> None:
    assert _after(S.PAUSED, S.RUNNING, age=SETTLING_SECONDS - 0.1) == Outcome()
    assert _after(S.RUNNING, S.PAUSED, busy=True) == Outcome()


def test_an_end_and_a_return_are_believed_however_young_the_record_is() -> None:
    assert _after(S.RUNNING, S.STOPPED, age=0.0).moves == [Move(ID, S.RUNNING, S.STOPPED)]
    assert _after(S.MISSING, S.RUNNING, age=0.0).moves == [Move(ID, S.MISSING, S.RUNNING)]


def test_a_sandbox_is_gone_when_two_reports_in_a_row_do_not_name_it() -> None:
    assert _after(S.RUNNING, None) == Outcome(absent={ID})
    assert [move.to for move in _after(S.RUNNING, None, again=True).moves] == [S.STOPPED]
    assert [move.to for move in _after(S.STARTING, None, again=True).moves] == [S.ERROR]


def test_what_a_host_should_not_have_is_to_be_destroyed() -> None:
    assert _after(S.STOPPING, S.RUNNING).destroy == [ID]
    assert reconcile([], {ID: S.RUNNING}, set()).destroy == [ID]
    assert reconcile([], {ID: S.STOPPED}, set()).destroy == []
