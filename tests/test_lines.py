from __future__ import annotations

import io
import os
import threading

from wellhead.lines import MAX_WAITING, LineWriter


def test_lines_arrive_in_order() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    assert all([writer.put(f"{number}\n") for number in range(10)])
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(10)]


def test_a_reader_that_stands_still_costs_lines_and_no_time() -> None:
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return len(text)

    writer = LineWriter(Stuck())
    taken = [
        writer.put("line\n") for _ in range(2 * MAX_WAITING + 10)
    ]  # as many again are in the writer's hands
    assert taken.count(False) >= 9
    gate.set()
    writer.close()


def test_lines_that_come_together_are_written_together() -> None:
    writes: list[str] = []

    class Counting(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    writer = LineWriter(Counting())
    for number in range(100):
        writer.put(f"{number}\n")
    writer.close()
    assert "".join(writes).split() == [str(number) for number in range(100)]
    assert len(writes) < 20  # one, unless this machine stood still


def test_a_reader_that_went_away_is_no_error() -> None:
    reader, end = os.pipe()
    os.close(reader)
    stream = os.fdopen(end, "w")
    writer = LineWriter(stream)
    assert writer.put("nobody hears this\n")
    assert writer.put("nor this\n")
    writer.close()
    try:
        stream.close()
    except BrokenPipeError:
        pass
