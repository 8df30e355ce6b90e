import logging

import pytest

from wellhead.edge.metrics import Metrics
from wellhead.edge.refusals import Refusals


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_refusal_is_counted_and_the_first_of_a_second_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wellhead.edge")
    metrics, clock = Metrics(), Clock()
    refusals = Refusals(metrics, clock)
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        refusals.note("unknown-sni", peer)
    refusals.note("not-tls", "192.0.2.4")
    clock.now += 1
    refusals.note("unknown-sni", "192.0.2.5")
    assert metrics.refused == {"unknown-sni": 4, "not-tls": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "connection refused reason=unknown-sni peer=192.0.2.1 others=0",
        "connection refused reason=not-tls peer=192.0.2.4 others=0",
        "connection refused reason=unknown-sni peer=192.0.2.5 others=2",
    ]


def test_a_port_probe_is_counted_and_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wellhead.edge")
    metrics = Metrics()
    Refusals(metrics, Clock()).note("hello-closed", "192.0.2.1")
    assert metrics.refused == {"hello-closed": 1} and not caplog.records
