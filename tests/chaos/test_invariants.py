"""The checker can fail: for each invariant a history that keeps it, and one that breaks it."""

from __future__ import annotations

import pytest

from tests.chaos.history import (
    NEVER,
    Created,
    Deleted,
    Event,
    Executed,
    Fault,
    Freed,
    History,
    Restored,
    Rotated,
    Sampled,
    Session,
    Visited,
    Welcomed,
)
from tests.chaos.invariants import INVARIANTS, Violation, check


def at(began: float, took: float = 0.1) -> dict[str, float]:
    return {"began": began, "ended": began + took}


LOST = {"began": 0.0, "ended": NEVER}
BORN = Created(tunnel="t1", name="a", **at(0))


def visit(began: float, **facts: object) -> Visited:
    given: dict[str, object] = {
        "id": "1", "method": "POST", "name": "a", "status": 200, "tunnel": "t1", "generation": 1,
        "answers": "1", "wanted": "h", "got": "h",
    }  # fmt: skip
    return Visited(**at(began), **(given | facts))  # type: ignore[arg-type]


def done(began: float, *, tunnel: str = "t1", method: str = "POST") -> Executed:
    return Executed(**at(began, 0), id="1", method=method, tunnel=tunnel)


def session(number: float, opened: bool, boot: int = 1) -> Session:
    return Session(**at(number, 0), boot=boot, session="s", name="a", opened=opened)


def sample(number: float, boot: int = 1, **values: float) -> Sampled:
    return Sampled(**at(number), boot=boot, values=values)


def violations(*events: Event) -> list[Violation]:
    history = History()
    for event in events:
        history.add(event)
    return check(history)


GOOD: dict[str, list[Event]] = {
    "a name that was freed": [BORN, Freed(tunnel="t1", **at(5)), Created(tunnel="t2", name="a", **at(5.05))],
    "a name freed before, told out of order": [
        Created(tunnel="t2", name="a", **at(6)), Freed(tunnel="t1", **at(5)), BORN,
    ],
    "a free without an answer may have happened": [
        BORN, Freed(tunnel="t1", began=1, ended=NEVER), Created(tunnel="t2", name="a", **at(9)),
    ],
    "a create without an answer may not have happened": [BORN, Created(tunnel="t2", name="a", **LOST)],
    "the same tunnel twice": [BORN, Created(tunnel="t1", name="a", **at(3))],
    "an answer soon after a delete": [BORN, done(6), Deleted(tunnel="t1", **at(5)), visit(6.0)],
    "a delete without an answer": [BORN, done(9), Deleted(tunnel="t1", **LOST), visit(9)],
    "an answer after a restore": [
        BORN, done(9), Deleted(tunnel="t1", **at(1)), Restored(tunnel="t1", **at(3)), visit(9),
    ],
    "503 after a delete": [BORN, Deleted(tunnel="t1", **at(1)), visit(9, status=503, tunnel="")],
    "the new secret": [
        BORN, Rotated(tunnel="t1", generation=1, hard=True, **at(1)), done(9),
        Welcomed(tunnel="t1", generation=2, **at(2)), visit(9, generation=2),
    ],
    "a hello that began before": [
        BORN, Rotated(tunnel="t1", generation=1, hard=True, **at(1, 2)),
        Welcomed(tunnel="t1", generation=1, **at(2)),
    ],
    "a live session after a soft rotation": [
        BORN, Rotated(tunnel="t1", generation=1, hard=False, **at(1)), done(9), visit(9),
    ],
    "a rotation without an answer": [
        BORN, Rotated(tunnel="t1", generation=1, hard=True, **LOST),
        Welcomed(tunnel="t1", generation=1, **at(2)),
    ],
    "an answer": [BORN, done(1), visit(1)],
    "a GET twice": [BORN, done(1, method="GET"), done(2, method="GET"), visit(1, method="GET")],
    "an execution without an answer": [done(1)],
    "a cut answer is none": [BORN, visit(1, status=0, got="x")],
    "a session": [session(1, True), session(2, False)],
    "a session that its edge took with it": [session(1, True)],
    "counters begin anew with their edge": [sample(1, n_total=5), sample(2, boot=2, n_total=0)],
    "gauges go back": [sample(1, n=5), sample(2, n=0)],
}  # fmt: skip

BAD: dict[str, tuple[str, list[Event]]] = {
    "two tunnels": ("names_are_unique", [BORN, Created(tunnel="t2", name="a", **at(9))]),
    "two tunnels, the first freed later": (
        "names_are_unique",
        [BORN, Created(tunnel="t2", name="a", **at(3)), Freed(tunnel="t1", **at(5))],
    ),
    "an answer of the deleted": (
        "the_deleted_do_not_answer",
        [BORN, done(9), Deleted(tunnel="t1", **at(1)), visit(2.1)],
    ),
    "a restore before the delete is none": (
        "the_deleted_do_not_answer",
        [BORN, done(9), Restored(tunnel="t1", **at(1)), Deleted(tunnel="t1", **at(3)), visit(9)],
    ),
    "the old secret is let in": (
        "replaced_secrets_open_nothing",
        [BORN, Rotated(tunnel="t1", generation=2, hard=True, **at(1)),
         Welcomed(tunnel="t1", generation=1, **at(2))],
    ),
    "the old secret is let in after a soft rotation": (
        "replaced_secrets_open_nothing",
        [BORN, Rotated(tunnel="t1", generation=1, hard=False, **at(1)),
         Welcomed(tunnel="t1", generation=1, **at(2))],
    ),
    "a session of the old secret answers": (
        "replaced_secrets_open_nothing",
        [BORN, done(9), Rotated(tunnel="t1", generation=1, hard=True, **at(1)), visit(9)],
    ),
    "another tunnel": (
        "answers_are_for_their_requests",
        [BORN, Created(tunnel="t2", name="b", **at(0)), done(1, tunnel="t2"), visit(1, tunnel="t2")],
    ),
    "an unknown tunnel": ("answers_are_for_their_requests", [BORN, visit(1, tunnel="")]),
    "another request's answer": ("answers_are_for_their_requests", [BORN, done(1), visit(1, answers="2")]),
    "other bytes": ("answers_are_for_their_requests", [BORN, done(1), visit(1, got="x")]),
    "nobody's answer": ("answers_are_for_their_requests", [BORN, visit(1)]),
    "a POST twice": ("nothing_is_done_twice", [BORN, done(1), done(2), visit(1, status=502)]),
    "a conversation twice": (
        "nothing_is_done_twice", [done(1, method="WEBSOCKET"), done(2, method="WEBSOCKET")],
    ),
    "a session opened twice": ("sessions_come_in_order", [session(1, True), session(2, True)]),
    "a session closed twice": (
        "sessions_come_in_order", [session(1, True), session(2, False), session(3, False)],
    ),
    "a session closed before": ("sessions_come_in_order", [session(1, False), session(2, True)]),
    "a session of an edge that is gone": (
        "sessions_come_in_order", [session(1, True), session(2, False, boot=2)],
    ),
    "an edge that is gone speaks": (
        "sessions_come_in_order", [session(1, True, boot=2), session(2, False, boot=1)],
    ),
    "less than nothing": ("counters_make_sense", [sample(1, n=-1)]),
    "a counter that goes back": ("counters_make_sense", [sample(1, n_total=5), sample(2, n_total=4)]),
}  # fmt: skip


@pytest.mark.parametrize("what", GOOD)
def test_a_lawful_history_passes(what: str) -> None:
    assert violations(*GOOD[what]) == []


@pytest.mark.parametrize("what", BAD)
def test_an_unlawful_history_is_found_and_shown(what: str) -> None:
    invariant, events = BAD[what]
    found = violations(*events, Fault(what="edge killed", **at(1)))
    assert {violation.invariant for violation in found} >= {invariant.replace("_", " ")}
    told = "\n".join(map(str, found))
    assert "Fault what='edge killed'" in told and events[-1].line() in told


def test_every_invariant_was_broken_once() -> None:
    assert {name for name, _ in BAD.values()} == {each.__name__ for each in INVARIANTS}
