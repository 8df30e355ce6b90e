from __future__ import annotations

import pytest

from wellhead.model.reconciling import Kept, Move, Outcome, Said, reconcile
from wellhead.model.sandboxes import SandboxId
from wellhead.model.sandboxes import SandboxStatus as S

ID = SandboxId("cl-1")
LONG_AGO = 100.0


def outcome(
    status: S,
    says: S | None,
    *,
    absent: bool = False,
    ago: float = LONG_AGO,
    busy: bool = False,
    reason: str | None = None,
) -> Outcome:
    reported = {} if says is None else {ID: Said(says, reason)}
    return reconcile([Kept(ID, status, ago, busy)], reported, {ID} if absent else ())


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (S.RUNNING, S.PAUSED),  # by its timeout
        (S.MISSING, S.RUNNING),
        (S.MISSING, S.PAUSED),
        (S.STARTING, S.RUNNING),  # its create's answer was lost
        (S.PAUSING, S.RUNNING),
        (S.RESUMING, S.RUNNING),
        (S.RUNNING, S.ERROR),
        (S.PAUSED, S.STOPPED),
    ],
)
def test_a_sandbox_becomes_what_its_host_says(status: S, says: S) -> None:
    assert outcome(status, says, reason="why").moves == [Move(ID, status, says, "why")]


def test_what_is_as_the_host_says_stays() -> None:
    assert outcome(S.RUNNING, S.RUNNING) == Outcome()


def test_a_report_that_may_be_older_than_the_change_changes_nothing() -> None:
    assert outcome(S.RUNNING, S.PAUSED, ago=0.5) == Outcome()
    assert outcome(S.MISSING, S.RUNNING, ago=0.5).moves, "nobody but its host knows how a missing one is"


def test_an_end_is_believed_however_young_the_record_is() -> None:
    for over in (S.STOPPED, S.ERROR):
        assert outcome(S.RUNNING, over, ago=0.0).moves == [Move(ID, S.RUNNING, over)]


def test_what_somebody_is_changing_is_left_alone() -> None:
    for says in (S.PAUSED, None):
        assert outcome(S.RUNNING, says, busy=True, absent=True) == Outcome()


def test_what_a_host_does_not_name_twice_is_over() -> None:
    first = outcome(S.RUNNING, None)
    assert first == Outcome(absent={ID})
    (move,) = outcome(S.RUNNING, None, absent=True).moves
    assert move.to is S.STOPPED and move.reason
    assert outcome(S.STARTING, None, absent=True).moves[0].to is S.ERROR
    assert outcome(S.RUNNING, None, absent=True, ago=0.5).moves == [], "it may not have been there yet"


def test_what_a_host_has_and_should_not_is_destroyed_unless_it_is_over() -> None:
    found = reconcile([], {ID: Said(S.RUNNING), SandboxId("cl-2"): Said(S.STOPPED)}, ())
    assert found.destroy == [ID] and not found.moves
    assert outcome(S.STOPPING, S.RUNNING).destroy == [ID]
    assert outcome(S.STOPPING, S.STOPPED).moves == [Move(ID, S.STOPPING, S.STOPPED)]
