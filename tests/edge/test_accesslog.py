import asyncio
import io
import threading

import pytest
from prometheus_client import generate_latest

from wellhead.edge.accesslog import AccessLog, Query
from wellhead.edge.metrics import Metrics
from wellhead.lines import MAX_WAITING
from wellhead.visitors.access import Line


def line(**changes: object) -> Line:
    usual = Line(
        place="tunnel", name="my-agent", peer="192.0.2.7", method=b"GET", target=b"/a?b=c", status=200,
        whole=True, bytes_in=3, bytes_out=5, began=1.0, first_byte=1.25, ended=1.5, request_id=b"r1",
        reason="",
    )  # fmt: skip
    return usual._replace(**changes)  # type: ignore[arg-type]  # a test's own field values


class FullDisk(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(28, "no space left on device")


async def test_a_line_tells_what_the_exchange_was() -> None:
    out, metrics = io.BytesIO(), Metrics()
    log = AccessLog(metrics, out, asyncio.get_running_loop())
    log.add(line())
    log.close()
    text = out.getvalue().decode()
    assert "tunnel=my-agent peer=192.0.2.7 method=GET target=/a?b=c status=200 in=3 out=5" in text
    assert "first_ms=250.0 ms=500.0 id=r1" in text and text.endswith("\n")


async def test_a_target_cannot_forge_a_line() -> None:
    out = io.BytesIO()
    log = AccessLog(Metrics(), out, asyncio.get_running_loop())
    log.add(line(target=b"/\x1b[2J\r\nforged"))
    log.close()
    assert out.getvalue().count(b"\n") == 1 and b"\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("query", "told"), [("masked", b"/a?token=***&b=c"), ("whole", b"/a?token=xyz&b=c"), ("off", b"/a")]
)
async def test_a_tenants_secret_in_a_query_is_told_only_if_so_set(query: Query, told: bytes) -> None:
    out = io.BytesIO()
    log = AccessLog(Metrics(), out, asyncio.get_running_loop(), query)
    log.add(line(target=b"/a?token=xyz&b=c"))
    log.close()
    assert b" target=" + told + b" " in out.getvalue()


async def test_a_full_disk_costs_lines_not_requests() -> None:
    metrics = Metrics()
    log = AccessLog(metrics, FullDisk(), asyncio.get_running_loop())
    log.add(line())
    log.close()
    assert metrics.lines_dropped == 1
    assert metrics.exchanges["tunnel", 2] == 1


async def test_what_was_cut_off_is_counted_as_such() -> None:
    metrics = Metrics()
    log = AccessLog(metrics, None, asyncio.get_running_loop())
    log.add(line(whole=False, reason="upstream-failed"))
    log.close()
    exported = generate_latest(metrics.registry).decode()
    assert 'wellhead_exchanges_total{place="tunnel",status="cut"} 1.0' in exported
    assert 'wellhead_refused_total{reason="upstream-failed"} 1.0' in exported
    assert 'wellhead_first_byte_seconds_bucket{le="0.25"} 1.0' in exported


async def test_a_log_that_nobody_reads_does_not_stop_the_loop() -> None:
    gate = threading.Event()

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            gate.wait(10)
            return 0

    metrics = Metrics()
    log = AccessLog(metrics, Stuck(), asyncio.get_running_loop())
    for _ in range(2 * MAX_WAITING + 2):
        log.add(line())
        log.flush()
    assert metrics.lines_dropped
    gate.set()
    log.close()
