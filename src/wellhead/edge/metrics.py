"""What the edge counts, as plain integers; Prometheus reads them when it scrapes.

Counting happens where the access line is written and where something is refused, never in between.
Labels come from closed sets of ours: no path, host or address of a stranger becomes a label. The names of the
certificates that end first are told, a hundred at most.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)  # seconds
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)  # seconds
CUT, RAW = 0, 6  # beside the classes of status: cut off, and a connection whose bytes nobody read
Metric = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_WORDS = {CUT: "cut", RAW: "raw"}

__all__ = ["Metrics", "Sample"]


class Metrics(Collector):
    """The counters of one edge. Gauges are read from the functions given to ``watch``."""

    def __init__(self) -> None:
        self.exchanges: Counter[tuple[str, int]] = Counter()  # (place, status class 1..5, CUT or RAW)
        self.bytes_in = 0  # body bytes from visitors
        self.bytes_out = 0  # body bytes to visitors
        self.refused: Counter[str] = Counter()  # by reason word
        self.sessions_opened: Counter[str] = Counter()  # by carrier
        self.carried: Counter[str] = Counter()  # exchanges finished, by the carrier of their agent
        self.sessions_closed: Counter[str] = Counter()  # by code of the error, "closed" without one
        self.hellos_refused: Counter[str] = Counter()
        self.lines_dropped = 0  # access lines lost to a slow or full log
        self._first_bytes = _Histogram(BUCKETS)
        self._loop_lags = _Histogram(LAG_BUCKETS)
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._families: list[tuple[str, str, str, Callable[[], Mapping[str, float]]]] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export ``read()`` as a gauge."""
        self._gauges.append((name, text, read))

    def watch_each(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Export ``read()`` as gauges, one for each value of ``label``: a bounded number."""
        self._families.append((name, text, label, read))

    def first_bytes(self, waits: list[float]) -> None:
        """Note how long visitors waited for the first bytes of their replies, in seconds."""
        self._first_bytes.add(waits)

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._loop_lags.add([seconds])

    def collect(self) -> Iterator[Metric]:
        exchanges = CounterMetricFamily(
            "wellhead_exchanges", "Exchanges finished.", labels=("place", "status")
        )
        for (place, family), count in self.exchanges.items():
            exchanges.add_metric((place, _WORDS.get(family, f"{family}xx")), count)
        yield exchanges
        yield self._by("reason", "wellhead_refused", "Requests and connections refused.", self.refused)
        yield self._by("reason", "wellhead_hellos_refused", "Agents refused at hello.", self.hellos_refused)
        yield self._by("reason", "wellhead_sessions_closed", "Admitted sessions ended.", self.sessions_closed)
        yield self._by("carrier", "wellhead_sessions_opened", "Sessions admitted.", self.sessions_opened)
        yield self._by("carrier", "wellhead_carried", "Exchanges finished by agents.", self.carried)
        for name, text, value in (
            ("wellhead_visitor_bytes_in", "Body bytes received from visitors.", self.bytes_in),
            ("wellhead_visitor_bytes_out", "Body bytes sent to visitors.", self.bytes_out),
            ("wellhead_access_lines_dropped", "Access lines lost to a slow log.", self.lines_dropped),
        ):
            counter = CounterMetricFamily(name, text)
            counter.add_metric((), value)
            yield counter
        for name, text, read in self._gauges:
            yield GaugeMetricFamily(name, text, value=read())
        for name, text, label, read_each in self._families:
            gauges = GaugeMetricFamily(name, text, labels=(label,))
            for each, number in read_each().items():
                gauges.add_metric((each,), number)
            yield gauges
        yield self._first_bytes.family(
            "wellhead_first_byte_seconds", "Time from a request's head to the first byte of its reply."
        )
        yield self._loop_lags.family(
            "wellhead_loop_lag_seconds", "How late the event loop was, looked at four times a second."
        )

    def _by(self, label: str, name: str, text: str, counts: Counter[str]) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=(label,))
        for each, count in counts.items():
            family.add_metric((each,), count)
        return family


class _Histogram:
    """Seconds, counted into buckets of these upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, values: list[float]) -> None:
        for bucket, count in Counter(map(bisect.bisect_left, itertools.repeat(self._bounds), values)).items():
            self._counts[bucket] += count
        self._sum += sum(values)

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        names = (*map(str, self._bounds), "+Inf")
        buckets = list(zip(names, itertools.accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._sum)
