"""What happened: every invocation with its result, from all clients, and what the upstreams carried out.

Times are seconds of one clock. ``began`` is before the request was sent, ``ended`` after its answer was
there; what never got an answer may have happened at any time since it began, or not at all, and ends at
``NEVER``.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

NEVER = math.inf
E = TypeVar("E", bound="Event")


@dataclass(frozen=True, kw_only=True)
class Event:
    began: float
    ended: float

    @property
    def acknowledged(self) -> bool:
        return self.ended < NEVER

    def line(self) -> str:
        """For people."""
        facts = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self)[2:])
        until = f"{self.ended:.3f}" if self.acknowledged else "?"
        return f"{self.began:9.3f} .. {until:>9} {type(self).__name__} {' '.join(facts)}"


@dataclass(frozen=True, kw_only=True)
class Tunnelled(Event):
    tunnel: str  # its id


@dataclass(frozen=True, kw_only=True)
class Created(Tunnelled):
    name: str


@dataclass(frozen=True, kw_only=True)
class Deleted(Tunnelled):
    """Traffic is to stop; the name stays taken."""


@dataclass(frozen=True, kw_only=True)
class Restored(Tunnelled):
    """A delete taken back."""


@dataclass(frozen=True, kw_only=True)
class Freed(Tunnelled):
    """The record is over, its name may be taken."""


@dataclass(frozen=True, kw_only=True)
class Rotated(Tunnelled):
    """``generation`` of the secret was replaced."""

    generation: int
    hard: bool


@dataclass(frozen=True, kw_only=True)
class Welcomed(Tunnelled):
    """A hello with this generation of the secret was accepted."""

    generation: int


@dataclass(frozen=True, kw_only=True)
class Executed(Tunnelled):
    """An upstream began to carry a request out."""

    id: str
    method: str


@dataclass(frozen=True, kw_only=True)
class Visited(Event):
    """A visitor's request or conversation, and who answered; ``tunnel`` is empty where nobody did."""

    id: str
    method: str
    name: str
    status: int = 0  # 0: no complete answer
    tunnel: str = ""
    generation: int = 0
    answers: str = ""  # the id that the answer is for
    wanted: str = ""  # hash of the body that the answer should have
    got: str = ""


@dataclass(frozen=True, kw_only=True)
class Session(Event):
    """A session as the edge's log tells of it; ``boot`` counts the edge's starts."""

    boot: int
    session: str
    name: str
    opened: bool


@dataclass(frozen=True, kw_only=True)
class Sampled(Event):
    """The edge's metrics."""

    boot: int
    values: Mapping[str, float]

    def line(self) -> str:
        return f"{self.began:9.3f} .. {self.ended:9.3f} Sampled boot={self.boot} {len(self.values)} values"


@dataclass(frozen=True, kw_only=True)
class Fault(Event):
    what: str


class History:
    """All of it, in the order in which it became known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._numbers = itertools.count(1)
        self.events: list[Event] = []

    def now(self) -> float:
        return self._clock() - self._began

    def number(self) -> int:
        """A fresh one."""
        return next(self._numbers)

    def add(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> Iterator[E]:
        return (event for event in self.events if isinstance(event, kind))


def told(events: Iterable[Event]) -> str:
    """Events as lines, by their beginning."""
    return "\n".join("  " + event.line() for event in sorted(events, key=lambda each: each.began))
