"""What a run measured, by round, and how figures of several rounds are shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from bench.ground import Route
from bench.plan import Options, Sample


@dataclass(frozen=True, slots=True)
class Run:
    """All of one run."""

    machine: dict[str, str]
    options: Options
    routes: list[Route]
    skipped: dict[str, str]  # target -> reason
    samples: list[Sample]

    def values(self, target: str, cell: str, figure: str) -> dict[int, float]:
        """The figure of each round; ``cell`` is "group name"."""
        return {
            sample.round: sample.figures[figure]
            for sample in self.samples
            if sample.target == target
            and f"{sample.group} {sample.cell}" == cell
            and figure in sample.figures
        }

    def ratios(self, target: str, other: str, cell: str, figure: str) -> list[float]:
        """target / other, of the rounds that have both."""
        mine, theirs = self.values(target, cell, figure), self.values(other, cell, figure)
        return [mine[number] / theirs[number] for number in mine if theirs.get(number)]

    def added(self, target: str, figure: str = "p50") -> dict[int, float]:
        """Microseconds a target adds to a direct round trip at one connection on one CPU."""
        alone = self.values("direct", "latency c=1 on one CPU", figure)
        mine = self.values(target, "latency c=1 on one CPU", figure)
        return {number: mine[number] - alone[number] for number in mine if number in alone}

    def cells(self, group: str) -> list[str]:
        """Names of the cells of a group, in the order measured."""
        return list(dict.fromkeys(sample.cell for sample in self.samples if sample.group == group))


def table(head: str, rows: Iterable[list[str]]) -> str:
    """A Markdown table; empty where there are no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    columns = head.split(" | ")
    return "\n".join([f"| {head} |", "|" + "---|" * len(columns), *lines]) if lines else ""


def spread(values: Iterable[float], scale: float = 1.0, digits: int = 0) -> str:
    """``median [least-most]``."""
    found = sorted(value / scale for value in values)
    if not found:
        return "–"
    text = f"{statistics.median(found):,.{digits}f}"
    return text if len(found) == 1 else f"{text} [{found[0]:,.{digits}f}-{found[-1]:,.{digits}f}]"


def middle(values: Iterable[float], digits: int = 0) -> str:
    """The median."""
    found = list(values)
    return f"{statistics.median(found):,.{digits}f}" if found else "–"
