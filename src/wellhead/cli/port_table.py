"""The ports of a sandbox as a table, and as a picture that is drawn anew when they change."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wellhead.cli.asking import Ask, as_json
from wellhead.cli.output import tell
from wellhead.cli.table import columns
from wellhead.errors import LinkError, SandboxState, Unavailable
from wellhead.model.sandboxes import SandboxStatus
from wellhead.model.text import escape

if TYPE_CHECKING:
    from wellhead.client.sandbox_records import PortInfo
    from wellhead.client.sandboxes import Sandbox

WATCH_SECONDS = 1.0
PROCESS_MIN = 16  # characters of a command line that a narrow terminal shows
_OVER = (SandboxStatus.STOPPED, SandboxStatus.ERROR)
_PROCESS = 2  # its column
_CLEAR = "\x1b[H\x1b[2J"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_TITLES = ("PORT", "ADDRESS", "PROCESS", "PID", "VISIBILITY", "URL")


def port_table(ports: Sequence[PortInfo]) -> list[str]:
    """A line for each; in a terminal a long command line is cut so that the rest has room."""
    if not ports:
        return ["nothing listens"]
    rows = [
        [
            str(each.port),
            each.address,
            shlex.join(each.argv) if each.argv else each.command or "",
            "" if each.pid is None else str(each.pid),
            "" if each.visibility is None else each.visibility.value,
            each.url or "",
        ]
        for each in ports
    ]
    if sys.stdout.isatty():
        widest = [max(len(row[column]) for row in [_TITLES, *rows]) for column in range(len(_TITLES))]
        room = shutil.get_terminal_size().columns - sum(widest) - 2 * (len(_TITLES) - 1)
        most = max(PROCESS_MIN, widest[_PROCESS] + room)
        for row in rows:
            if len(row[_PROCESS]) > most:
                row[_PROCESS] = row[_PROCESS][: most - 1] + "…"
    return columns(_TITLES, rows)


def watch_ports(ask: Ask, sandbox: Sandbox) -> None:
    """Show them whenever they are others than before, until Ctrl-C, or until the sandbox is over.

    As JSON, or quiet, they are one line each time.
    """
    picture = Picture()
    seen: tuple[list[PortInfo], str | None] | None = None
    try:
        while seen is None or sandbox.info.status not in _OVER:
            before, seen = seen, _look(sandbox, seen[0] if seen else [])
            if seen != before or picture.is_of_another_size():
                _show(ask, picture, *seen)
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        picture.leave()


def _show(ask: Ask, picture: Picture, ports: list[PortInfo], note: str | None) -> None:
    if ask.as_json:
        tell(as_json(ports, indent=None))
    elif ask.quiet:
        tell(" ".join(numbers(ports)))
    elif note is None:
        picture.draw(port_table(ports))
    else:
        picture.draw([*port_table(ports), note] if ports else [note])


def numbers(ports: Sequence[PortInfo]) -> list[str]:
    """Each once, though something may listen at several addresses."""
    return list(dict.fromkeys(str(each.port) for each in ports))


def _look(sandbox: Sandbox, last: list[PortInfo]) -> tuple[list[PortInfo], str | None]:
    """What listens now, and what is to be said beside it; ``last`` is what did when it was last heard of."""
    try:
        if sandbox.refresh().status is SandboxStatus.RUNNING:
            return sandbox.ports(), None
    except SandboxState:  # since then
        pass
    except (LinkError, Unavailable) as error:
        return last, f"not heard of any more, trying again: {escape(str(error))}"
    return [], f"{sandbox.id} is {sandbox.info.status.value}"


class Picture:
    """Lines in a terminal that take the place of those before; elsewhere they come one after the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size: os.terminal_size | None = None  # of the terminal, when it was drawn

    def is_of_another_size(self) -> bool:
        """Whether the terminal has changed since, and has moved what it shows."""
        return self._size is not None and self._size != shutil.get_terminal_size()

    def draw(self, lines: list[str]) -> None:
        if self._size is None:
            back = ""
        elif not sys.stdout.isatty():
            back = "\n"
        elif self.is_of_another_size():
            back = _CLEAR  # where the lines are by now is for the terminal to know
        else:
            back = f"\x1b[{self._rows()}F\x1b[J"
        self._lines, self._size = lines, shutil.get_terminal_size()
        tell(back + "\n".join(lines))

    def leave(self) -> None:
        """What comes next begins in a line of its own."""
        if sys.stdout.isatty():
            tell()

    def _rows(self) -> int:
        """How many the lines take: the terminal breaks those that are too long."""
        width = shutil.get_terminal_size().columns
        return sum(max(1, math.ceil(len(_STYLE.sub("", line)) / width)) for line in self._lines)
