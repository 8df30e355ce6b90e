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
    taken = [writer.put("line\n") for _ in range(MAX_WAITING + 10)]
    assert taken.count(False) >= 9
    gate.set()
    writer.close()


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
