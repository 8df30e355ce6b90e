from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from wellhead.cli.exchange_lines import FLUSH_SECONDS, ExchangeLines, format_line, milliseconds, size


@dataclass(frozen=True)
class Done:
    method: str = "GET"
    target: str = "/a"
    status: int = 200
    bytes_in: int = 0
    bytes_out: int = 1234
    total_ms: float = 12.3
    failure: str = ""
    peer: str = ""


def test_a_line_has_method_path_status_time_and_bytes() -> None:
    assert format_line(Done(), colour=False) == "GET    /a 200 12 ms 1.2 kB"


def test_a_body_that_came_in_is_told_too() -> None:
    assert format_line(Done(method="POST", bytes_in=5), colour=False) == "POST   /a 200 12 ms 1.2 kB (in 5 B)"


def test_an_exchange_without_a_reply_says_why() -> None:
    line = format_line(Done(status=0, bytes_out=0, failure="cancelled"), colour=False)
    assert line == "GET    /a --- 12 ms 0 B cancelled"


def test_a_connection_that_is_handed_on_is_known_by_its_visitor() -> None:
    done = Done(method="", target="", status=0, peer="192.0.2.7", bytes_in=517)
    assert format_line(done, colour=False) == "TCP    192.0.2.7 --- 12 ms 1.2 kB (in 517 B)"


def test_where_nobody_else_notes_the_visitor_the_line_does() -> None:
    done = Done(peer="192.0.2.7", failure="cancelled")
    line = format_line(done, colour=False, with_peer=True)
    assert line == "GET    /a 200 12 ms 1.2 kB from 192.0.2.7 cancelled"
    assert format_line(done, colour=False) == "GET    /a 200 12 ms 1.2 kB cancelled"
    assert format_line(Done(), colour=False, with_peer=True) == "GET    /a 200 12 ms 1.2 kB"
    passed_on = Done(method="", target="", status=0, peer="192.0.2.7")
    assert format_line(passed_on, colour=False, with_peer=True) == "TCP    192.0.2.7 --- 12 ms 1.2 kB"


def test_a_path_cannot_move_the_cursor_or_fill_the_screen() -> None:
    line = format_line(Done(target="/\x1b[2J\r" + "x" * 500), colour=False)
    assert "\\x1b[2J\\r" in line and len(line) < 250


def test_a_secret_in_a_query_is_not_shown() -> None:
    assert format_line(Done(target="/lab?token=abc"), colour=False).startswith("GET    /lab?token=*** 200 ")


def test_colour_marks_the_status() -> None:
    assert "\x1b[31m502\x1b[0m" in format_line(Done(status=502), colour=True)


async def test_under_load_the_rest_is_counted_not_written() -> None:
    written: list[str] = []
    flushed = asyncio.Event()

    def write(text: str) -> bool:
        written.append(text)
        flushed.set()
        return True

    lines = ExchangeLines(write, colour=False, lines_per_second=int(3 / FLUSH_SECONDS))
    for number in range(1000):
        lines.add(replace(Done(), target=f"/{number}"))
    async with asyncio.timeout(5):
        await flushed.wait()
    told = "".join(written).splitlines()
    assert [line.split()[1] for line in told[:-1]] == ["/0", "/1", "/2"]
    assert told[-1] == "… and 997 more"


async def test_what_could_not_be_written_is_counted_into_the_next_line() -> None:
    answers = [False, True]
    written: list[str] = []

    def write(text: str) -> bool:
        written.append(text)
        return answers.pop(0)

    lines = ExchangeLines(write, colour=False)
    lines.add(Done())
    lines.flush()
    lines.add(Done(target="/b"))
    lines.flush()
    assert written[-1].splitlines()[-1] == "… and 1 more"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (10**9, "1.0 GB"),
    ],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 ms"), (9.96, "10.0 ms"), (12.3, "12 ms"), (3210, "3.2 s")]
)
def test_times_are_short(value: float, text: str) -> None:
    assert milliseconds(value) == text
