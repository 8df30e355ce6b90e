from __future__ import annotations

import io
import time

import pytest

from wellhead.cli.progress import progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def wait_for(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.005)


def test_what_takes_long_is_shown_and_wiped_away() -> None:
    stream = Terminal()
    with progress("asking the server", stream=stream, quiet_seconds=0.01):
        wait_for(stream, "asking the server (0 s)")
    *_, last, nothing = stream.getvalue().split("\r")
    assert last.isspace() and nothing == ""


def test_what_is_quick_shows_nothing() -> None:
    stream = Terminal()
    with progress("asking the server", stream=stream):
        pass
    assert stream.getvalue() == ""


def test_nothing_is_shown_where_nobody_looks() -> None:
    stream = io.StringIO()
    with progress("asking the server", stream=stream, quiet_seconds=0):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_that_cannot_draw_gets_plain_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with progress("asking", stream=stream, quiet_seconds=0.01):
        wait_for(stream, "asking")
    assert stream.getvalue().isascii()


def test_an_error_passes_and_the_line_is_gone() -> None:
    stream = Terminal()
    with pytest.raises(KeyError), progress("asking", stream=stream, quiet_seconds=0.01):
        wait_for(stream, "asking")
        raise KeyError
    assert stream.getvalue().endswith("\r")
