"""Log lines: an event name and fields, one line each, whatever strangers put into the values.

::

    2030-01-02T03:04:05.678Z INFO wellhead.edge session opened session=s_1 tunnel=my-agent peer=192.0.2.7

Standard ``logging`` underneath. Control characters, bidirectional marks and line breaks are escaped, a line
is at most ``LINE_MAX`` bytes, a ``Secret`` shows as ``Secret(***)`` and a bare credential as ``wh_***``.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import time
import traceback
from types import TracebackType
from typing import TextIO

from wellhead.lines import LineWriter
from wellhead.model.text import escape, mask

__all__ = ["LINE_MAX", "LineFormatter", "Log", "clip", "configure", "escape", "line", "value"]

LINE_MAX = 8192  # bytes of UTF-8, with the line break
TRACEBACK_MAX = 100  # lines kept of one traceback: its last ones

_CUT = "…"
_SAFE = frozenset("!#$%&()*+,-./:;<>?@[]^_`{|}~")  # what may stand bare in a value beside letters and digits
_is_plain = re.compile(r"[A-Za-z0-9!#$%&()*+,./:;<>?@\[\]^_`{|}~-]+").fullmatch  # of ASCII: most values are

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def value(item: object) -> str:
    """One field's value: bare where it is unmistakable, quoted where it has spaces, quotes or ``=``."""
    match item:
        case str():
            text = item
        case None:
            return "-"
        case bool():
            return "true" if item else "false"
        case int():
            return str(item)
        case float():
            return f"{item:.3f}".rstrip("0").rstrip(".")
        case bytes():
            text = item.decode("latin-1")
        case _:
            text = str(item)
    if "wh" in text:
        text = mask(text)
    if _is_plain(text):
        return text
    if text and all(c.isalnum() or c in _SAFE for c in text) and text.isprintable():
        return text
    return '"' + escape(text).replace('"', '\\"') + '"'


def line(event: str, fields: dict[str, object]) -> str:
    """``event key=value key=value``."""
    return " ".join([event, *(f"{key}={value(item)}" for key, item in fields.items())])


class Log:
    """A room's logger. The event is a constant; what varies goes into the fields.

    >>> log = Log("wellhead.edge")
    >>> log.info("session opened", session="s_1", tunnel="my-agent")
    """

    __slots__ = ("logger",)

    def __init__(self, name: str) -> None:
        self.logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        if self.logger.isEnabledFor(logging.DEBUG):
            self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            self._emit(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, /, error: BaseException | None = None, **fields: object) -> None:
        """``error`` adds its traceback, for faults of ours; other failures are a field."""
        self._emit(logging.ERROR, event, fields, error)

    def _emit(
        self, level: int, event: str, fields: dict[str, object], error: BaseException | None = None
    ) -> None:
        info: ExcInfo | None = (type(error), error, error.__traceback__) if error is not None else None
        logger = self.logger
        if logger.isEnabledFor(level):
            # Without ``Logger.log``, which looks through the stack for a file and a line that we never show.
            logger.handle(
                logger.makeRecord(
                    logger.name, level, "", 0, "%s", (line(event, fields),), info, extra={"composed": True}
                )
            )


class LineFormatter(logging.Formatter):
    """Every record, ours or a library's, as lines that cannot be forged and are at most LINE_MAX bytes."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if not getattr(record, "composed", False):
            message = escape(message)  # a library's text; ours is escaped value by value
        when = f"{_second(int(record.created))}.{int(record.msecs):03d}Z"
        head = f"{when} {record.levelname} {record.name} {message}"
        return "\n".join(map(clip, [head, *_traceback_lines(record)]))


@functools.lru_cache(maxsize=4)
def _second(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number))


def _traceback_lines(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    text = "".join(traceback.format_exception(record.exc_info[1]))
    return [f"  | {escape(part)}" for part in text.split("\n") if part][-TRACEBACK_MAX:]


def clip(text: str) -> str:
    """The line cut to LINE_MAX bytes, with a mark where it was cut."""
    if len(text) * 4 < LINE_MAX:  # fast path: short whatever its characters are
        return text
    encoded = text.encode("utf-8")
    if len(encoded) < LINE_MAX:
        return text
    return encoded[: LINE_MAX - 1 - len(_CUT.encode())].decode("utf-8", "ignore") + _CUT


class _Unhurried(logging.Handler):
    """Writes through a thread: a stderr that nobody reads must not stop the loop."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._writer = LineWriter(stream)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record) + "\n")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._writer.close()
        super().close()


def configure(level: str = "info", stream: TextIO | None = None, *, others: bool = True) -> None:
    """Send our lines, at ``level`` and above, to ``stream``; of libraries, warnings only.

    Without a stream they go to stderr, through a thread. Without ``others`` the logging of everybody else is
    left as it is: for a program that is not ours.

    Libraries stay at warning even at our debug: their debug lines show statements, headers and parameters.
    Calling it again replaces what the last call set.
    """
    handler = logging.StreamHandler(stream) if stream is not None else _Unhurried(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.set_name("wellhead")
    root, ours = logging.getLogger(), logging.getLogger("wellhead")
    for logger in (root, ours):
        for old in [h for h in logger.handlers if h.get_name() == "wellhead"]:
            logger.removeHandler(old)
            old.close()
    ours.setLevel(level.upper())
    ours.propagate = others
    if not others:
        ours.addHandler(handler)
        return
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    # Its access log would repeat ours, and its start-up lines say nothing that `ready` does not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    access.setLevel(logging.CRITICAL)
