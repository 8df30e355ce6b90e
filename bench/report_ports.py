"""The tables of ``bench.ports``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.ports import GROUP, LOADS, NOTEBOOK, OURS
from bench.ports_rate import TARGETS
from bench.ports_stage import SHAPES, Shape
from bench.tables import Run, middle, spread, table

_QUIET, _CHAIN = "nothing", "nginx-2hop"
_NEAR_MS = 5.0


def beside(run: Run) -> str:
    """A row for each load in each shape."""
    rows = [
        _row(run, shape, load) for shape in SHAPES for load in (*LOADS, NOTEBOOK) if _has(run, shape, load)
    ]
    keys = "key to echo, ms p50 | x nothing | p99 | x nothing"
    used = "edge CPU | host CPU"
    return table(
        f"way, and beside | {keys} | command to first byte, ms p50 | p99 | carried | x alone | {used}", rows
    )


def _cell(shape: Shape, load: str) -> str:
    return f"{GROUP} {load}, {shape.name}"


def _has(run: Run, shape: Shape, load: str) -> bool:
    return bool(run.values(OURS, _cell(shape, load), "key_p50"))


def _row(run: Run, shape: Shape, load: str) -> list[str]:
    def values(figure: str) -> Iterable[float]:
        return run.values(OURS, _cell(shape, load), figure).values()

    carried = f"{spread(values('rate'))} MB/s" if load in LOADS else ""
    if load == NOTEBOOK:
        carried = (
            f"{middle(values('messages'))} messages, {middle(values('polls'))} polls/s"
            f" of {middle(values('poll_ms'), 1)} ms"
        )
    return [
        f"{shape.name}: {load}",
        spread(values("key_p50"), digits=1), middle(_slower(run, shape, load, "key_p50"), 2),
        spread(values("key_p99"), digits=1), middle(_slower(run, shape, load, "key_p99"), 2),
        middle(values("exec_p50"), 1), middle(values("exec_p99"), 1),
        carried if load != _QUIET else "–", middle(_kept(run, shape, load), 2),
        middle(values("edge_cpu"), 2), middle(values("host_cpu"), 2),
    ]  # fmt: skip


def _slower(run: Run, shape: Shape, load: str, figure: str) -> list[float]:
    """Times the same figure beside nothing, round by round."""
    busy, quiet = (run.values(OURS, _cell(shape, each), figure) for each in (load, _QUIET))
    return [busy[number] / quiet[number] for number in busy if quiet.get(number)]


def _kept(run: Run, shape: Shape, load: str) -> list[float]:
    """What ports carry beside somebody who types, times what they carry alone."""
    both, alone = (run.values(OURS, _cell(shape, load), figure) for figure in ("rate", "alone"))
    return [both[number] / alone[number] for number in both if alone.get(number)]


def requests(run: Run) -> str:
    """The rate beside the chain's, and the crowd."""
    cell = next((f"{GROUP} {each}" for each in run.cells(GROUP) if each.startswith("requests")), "")

    def row(target: str) -> list[str]:
        def values(figure: str) -> list[float]:
            return list(run.values(target, cell, figure).values())

        used = [middle(values(each), 1) if target != _CHAIN else "–" for each in ("edge_cpu", "agent_cpu")]
        lost = [f"{sum(values(each)):.0f}" for each in ("failed", "refused")]
        return [
            target, spread(values("rate")), middle(values("p50")), middle(values("p99")), *used, *lost,
            middle(run.ratios(target, _CHAIN, cell, "rate"), 2),
        ]  # fmt: skip

    rows = [row(target) for target in TARGETS if run.values(target, cell, "rate")]
    used = "edge CPU µs/request | host CPU | failed | refused"
    text = table(f"target | requests/s | p50 µs | p99 µs | {used} | x {_CHAIN}", rows)
    for sample in run.samples:
        if sample.group == GROUP and sample.cell == "crowd" and sample.figures:
            told = sample.figures
            text += (
                f"\n\nOne request to each of {told['count']:.0f} sandboxes in turn, each on a new connection:"
                f" p50 {told['p50']:.1f} ms, p99 {told['p99']:.1f} ms, all correct."
            )
    return text


def goals(run: Run) -> Iterator[tuple[str, list[float], float, bool]]:
    """What is promised: text, measured in each round, bound, and whether that is the least."""
    apart = [shape for shape in SHAPES if len(shape.lanes) > 1]
    for shape in apart:
        for load in (*LOADS, NOTEBOOK):
            if load == _QUIET or not _has(run, shape, load):
                continue
            if shape.link:
                yield (
                    f"{shape.name}, {load}: key p50 x nothing",
                    _slower(run, shape, load, "key_p50"),
                    1.5,
                    False,
                )
            else:
                # Within its own bound, which is the larger one of two: shown as a share of that.
                busy, quiet = (run.values(OURS, _cell(shape, each), "key_p99") for each in (load, _QUIET))
                shares = [busy[n] / max(_NEAR_MS, 2 * quiet[n]) for n in busy if n in quiet]
                yield (
                    f"{shape.name}, {load}: key p99, x the larger of 5 ms and 2 x nothing",
                    shares,
                    1.0,
                    False,
                )
            yield f"{shape.name}, {load}: MB/s x alone", _kept(run, shape, load), 0.7, True
