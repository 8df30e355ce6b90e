"""What must hold in every history, whatever was broken meanwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from tests.chaos.history import (
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
    Tunnelled,
    Visited,
    Welcomed,
    told,
)

T = TypeVar("T", bound=Tunnelled)

STOP_SECONDS = 1.0  # from an acknowledged delete or hard rotation to the last request that is let through
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 section 9.2.2


@dataclass(frozen=True)
class Violation:
    invariant: str
    sentence: str
    shown_by: tuple[Event, ...]

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}\n{told(self.shown_by)}"


def check(history: History) -> list[Violation]:
    """Every invariant's violations, each with the events that show it and the faults around them."""
    found = [violation for invariant in INVARIANTS for violation in invariant(history)]
    return [_with_faults(violation, history) for violation in found]


def _with_faults(violation: Violation, history: History) -> Violation:
    first = min((event.began for event in violation.shown_by), default=0.0) - 5.0
    last = max((event.began for event in violation.shown_by), default=0.0) + 1.0
    faults = [fault for fault in history.of(Fault) if fault.began <= last and fault.ended >= first]
    return Violation(violation.invariant, violation.sentence, (*violation.shown_by, *faults))


def names_are_unique(history: History) -> Iterator[Violation]:
    """No two tunnels had one name at any time."""
    freed = {event.tunnel: event for event in history.of(Freed)}
    by_name: dict[str, list[Created]] = defaultdict(list)
    for event in history.of(Created):
        if event.acknowledged:
            by_name[event.name].append(event)
    for name, created in by_name.items():
        for one, other in combinations(created, 2):
            if one.tunnel == other.tunnel:
                continue
            ends = [freed[each.tunnel] for each in (one, other) if each.tunnel in freed]
            if not (_may_precede(one, other, freed) or _may_precede(other, one, freed)):
                sentence = f"{name} was the name of two tunnels at once"
                yield Violation("names are unique", sentence, (one, other, *ends))


def _may_precede(one: Created, other: Created, freed: dict[str, Freed]) -> bool:
    """Whether the first tunnel's end can have come before the second's beginning."""
    return one.tunnel in freed and freed[one.tunnel].began <= other.ended


def the_deleted_do_not_answer(history: History) -> Iterator[Violation]:
    """After an acknowledged delete no request gets through."""
    restored = _by_tunnel(history.of(Restored))
    visits = _answered(history)
    for delete in history.of(Deleted):
        if not delete.acknowledged:
            continue
        for visit in visits[delete.tunnel]:
            late = visit.began >= delete.ended + STOP_SECONDS
            back = [each for each in restored[delete.tunnel] if delete.began <= each.ended]
            if late and not any(each.began <= visit.ended for each in back):
                sentence = f"{visit.status} from tunnel {delete.tunnel}, which was deleted"
                yield Violation("the deleted do not answer", sentence, (delete, visit, *back))


def replaced_secrets_open_nothing(history: History) -> Iterator[Violation]:
    """After an acknowledged rotation the old secret is refused; after a hard one its sessions are gone."""
    visits, welcomes = _answered(history), _by_tunnel(history.of(Welcomed))
    for rotation in history.of(Rotated):
        if not rotation.acknowledged:
            continue
        for welcome in welcomes[rotation.tunnel]:
            if welcome.generation <= rotation.generation and welcome.began >= rotation.ended:
                sentence = f"secret {welcome.generation} of {rotation.tunnel} was accepted"
                yield Violation("replaced secrets open nothing", sentence, (rotation, welcome))
        for visit in visits[rotation.tunnel]:
            late = visit.began >= rotation.ended + STOP_SECONDS
            if rotation.hard and visit.generation <= rotation.generation and late:
                sentence = f"a session of secret {visit.generation} of {rotation.tunnel} answered"
                yield Violation("replaced secrets open nothing", sentence, (rotation, visit))


def answers_are_for_their_requests(history: History) -> Iterator[Violation]:
    """An answer is of a tunnel of this name, for this request, with its bytes; and it was carried out."""
    names = {event.tunnel: event.name for event in history.of(Created)}
    done = {(event.id, event.tunnel) for event in history.of(Executed)}
    executed = _by_id(history.of(Executed))
    for visit in history.of(Visited):
        if not _is_success(visit):
            continue
        wrong = (
            f"answered by a tunnel of the name {names.get(visit.tunnel)!r}"
            if names.get(visit.tunnel) != visit.name
            else f"the answer is for {visit.answers}"
            if visit.answers != visit.id
            else "the body is another"
            if visit.got != visit.wanted
            else "nobody carried it out"
            if (visit.id, visit.tunnel) not in done
            else ""
        )
        if wrong:
            yield Violation(
                "answers are for their requests", f"{visit.id}: {wrong}", (visit, *executed[visit.id])
            )


def nothing_is_done_twice(history: History) -> Iterator[Violation]:
    """A request that must not be repeated is carried out once at most."""
    visits = {visit.id: visit for visit in history.of(Visited)}
    for number, executed in _by_id(history.of(Executed)).items():
        if executed[0].method not in REPEATABLE and len(executed) > 1:
            shown = (*executed, *([visits[number]] if number in visits else []))
            yield Violation(
                "nothing is done twice", f"{executed[0].method} {number}: {len(executed)} times", shown
            )


def sessions_come_in_order(history: History) -> Iterator[Violation]:
    """A session is opened once and closed once at most, after that, by the edge that opened it."""
    opened: dict[str, Session] = {}
    closed: dict[str, Session] = {}
    newest = 0
    for event in history.of(Session):
        before = [each[event.session] for each in (opened, closed) if event.session in each]
        wrong = ""
        if event.boot < newest:
            wrong = "told by an edge that was gone"
        elif event.opened and before:
            wrong = "opened again"
        elif not event.opened and event.session in closed:
            wrong = "closed again"
        elif not event.opened and (event.session not in opened or opened[event.session].boot != event.boot):
            wrong = "closed by an edge that had not opened it"
        if wrong:
            yield Violation("sessions come in order", f"{event.session} {wrong}", (*before, event))
        newest = max(newest, event.boot)
        (opened if event.opened else closed).setdefault(event.session, event)


def counters_make_sense(history: History) -> Iterator[Violation]:
    """No metric is below nothing, no counter of one edge goes back."""
    last: dict[tuple[int, str], tuple[float, Sampled]] = {}
    for sample in history.of(Sampled):
        for name, value in sample.values.items():
            if value < 0:
                yield Violation("counters make sense", f"{name} is {value:g}", (sample,))
            before = last.get((sample.boot, name))
            if _is_counter(name) and before is not None and value < before[0]:
                sentence = f"{name} went back from {before[0]:g} to {value:g}"
                yield Violation("counters make sense", sentence, (before[1], sample))
            last[sample.boot, name] = (value, sample)


INVARIANTS: tuple[Callable[[History], Iterator[Violation]], ...] = (
    names_are_unique,
    the_deleted_do_not_answer,
    replaced_secrets_open_nothing,
    answers_are_for_their_requests,
    nothing_is_done_twice,
    sessions_come_in_order,
    counters_make_sense,
)


def summary(history: History) -> str:
    """How much of what there was, for a line in a test's output."""
    kinds = Counter(type(event).__name__ for event in history.events)
    good = sum(map(_is_success, history.of(Visited)))
    faults = Counter(fault.what for fault in history.of(Fault))
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    statuses = Counter(visit.status for visit in history.of(Visited))
    return (
        f"{counted}; {good} visits answered, statuses {dict(sorted(statuses.items()))}; "
        f"faults {dict(sorted(faults.items()))}"
    )


def _is_success(visit: Visited) -> bool:
    return visit.acknowledged and (200 <= visit.status < 300 or visit.status == 101)


def _is_counter(name: str) -> bool:
    return name.partition("{")[0].endswith(("_total", "_count", "_bucket", "_sum"))


def _answered(history: History) -> dict[str, list[Visited]]:
    found: dict[str, list[Visited]] = defaultdict(list)
    for visit in history.of(Visited):
        if _is_success(visit):
            found[visit.tunnel].append(visit)
    return found


def _by_tunnel(events: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for event in events:
        found[event.tunnel].append(event)
    return found


def _by_id(events: Iterable[Executed]) -> dict[str, list[Executed]]:
    found: dict[str, list[Executed]] = defaultdict(list)
    for event in events:
        found[event.id].append(event)
    return found
