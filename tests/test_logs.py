from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead import logs
from wellhead.logs import LINE_MAX, Log
from wellhead.model import access
from wellhead.model.access import Secret

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) [a-z0-9._]+ .*")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    names = ["", "wellhead", "uvicorn", "uvicorn.error", "uvicorn.access"]
    levels = {name: logging.getLogger(name).level for name in names}
    propagate = logging.getLogger("uvicorn.access").propagate
    out = io.StringIO()
    logs.configure("debug", out)
    yield out
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.get_name() == "wellhead"]:
        root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").propagate = propagate


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().split("\n")[:-1]


def test_a_line_is_an_event_and_its_fields(stream: io.StringIO) -> None:
    Log("wellhead.edge").info(
        "session opened", session="s_1", seconds=1.5, retries=0, resumed=True, zone=None, agent="a b=c"
    )
    (line,) = lines(stream)
    assert LINE.fullmatch(line)
    assert line.endswith(
        "INFO wellhead.edge session opened"
        ' session=s_1 seconds=1.5 retries=0 resumed=true zone=- agent="a b=c"'
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "x\n2030-01-01T00:00:00.000Z INFO wellhead.edge session opened",
        "x\r\nfoo",
        "\x1b[2J\x1b]0;title\x07",
        "\u202egnp.exe",
        "\u2066\u2069\u200e\u200f\u061c",
        "\x85\u2028\u2029",
        "\x00\x7f\x9b31m",
        "\ud800 half a pair",
    ],
)
def test_a_value_cannot_forge_hide_or_reorder_a_line(stream: io.StringIO, hostile: str) -> None:
    log = Log("wellhead.edge")
    log.info("hello refused", agent=hostile)
    logging.getLogger("somelibrary").warning("refused %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError as error:
        log.error("fault", error, text=hostile)
    for line in lines(stream):
        assert line.isprintable()
        assert LINE.fullmatch(line) or line.startswith("  | ")
    assert len([line for line in lines(stream) if LINE.fullmatch(line)]) == 3


@given(st.text())
def test_a_value_is_printable(text: str) -> None:
    assert logs.value(text).isprintable()


@given(st.text(), st.text())
def test_two_values_never_look_like_three_fields(first: str, second: str) -> None:
    line = logs.line("event", {"a": first, "b": second})
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    assert re.fullmatch(r"event a=[^ =]+ b=[^ =]+", bare)


@pytest.mark.parametrize("filling", ["x", "\u00e9", "\U0001f600", "\n"])
def test_a_line_is_at_most_8_kib(stream: io.StringIO, filling: str) -> None:
    Log("wellhead.edge").info("request", target=filling * 20_000)
    (line,) = lines(stream)
    assert len(line.encode()) < LINE_MAX
    assert line.endswith("…")


def test_a_secret_in_a_field_an_argument_or_an_exception_does_not_show(stream: io.StringIO) -> None:
    log, secret = Log("wellhead.edge"), Secret("wh_canary")
    log.info("created", key=secret, keys=[secret])
    logging.getLogger("wellhead.edge").warning("%s %r %s", secret, secret, {"k": secret})
    try:
        raise ValueError(secret)
    except ValueError as error:
        log.error("fault", error)
    assert "canary" not in stream.getvalue()
    assert "Secret(***)" in stream.getvalue()


def test_a_credential_that_somebody_pasted_is_masked(stream: io.StringIO) -> None:
    secret = access.mint(access.API_KEY).reveal()
    log = Log("wellhead.edge")
    log.info("request", target=f"/?key={secret}")
    logging.getLogger("somelibrary").warning("bad value %s", secret)
    try:
        raise ValueError(secret)
    except ValueError as error:
        log.error("fault", error)
    assert secret[3:11] not in stream.getvalue()
    assert stream.getvalue().count("wh_***") == 3


def test_libraries_are_heard_from_warning_on_even_at_our_debug(stream: io.StringIO) -> None:
    Log("wellhead.edge").debug("frame", kind="OPEN")
    for name in ("aiosqlite", "httpcore.http11", "sqlalchemy.engine", "asyncio", "alembic"):
        logging.getLogger(name).debug("chatter")
        logging.getLogger(name).info("chatter")
    logging.getLogger("asyncio").warning("heard")
    assert [line.rpartition(" ")[2] for line in lines(stream)] == ["kind=OPEN", "heard"]


def test_uvicorn_does_not_chatter(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 1)
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("uvicorn.access").error("GET /")
    assert lines(stream) == []


def test_configuring_twice_does_not_write_twice(stream: io.StringIO) -> None:
    second = io.StringIO()
    logs.configure("warning", second)
    Log("wellhead.edge").info("unheard")
    Log("wellhead.edge").warning("heard")
    assert lines(stream) == []
    assert len(lines(second)) == 1


def test_without_a_stream_lines_go_to_stderr(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    assert sys.stderr is not None
    logs.configure("info")
    Log("wellhead.edge").info("heard")
    logs.configure("info", stream)  # the thread that wrote to stderr has ended: its lines are there
    assert "heard" in capsys.readouterr().err
