"""``wellhead sandbox shell``: this terminal becomes the view of one in a sandbox.

Keys go there as they are typed, but for those that leave it; what is written there is shown byte by byte.
One thread shows, one sends, and the main one reads keys: whoever waits for the network, leaving works.
"""

from __future__ import annotations

import contextlib
import locale
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wellhead.cli.shell_keys import HELD_SECONDS, Leaving
from wellhead.cli.shell_places import Place, Places
from wellhead.cli.tty import Modes, Raw, size, write_all
from wellhead.errors import InputError, WellheadError
from wellhead.model.text import escape

if TYPE_CHECKING:
    from wellhead.client.sandboxes import Sandbox
    from wellhead.client.terminals import Terminal, ViewOptions

PIECE = 16 * 1024  # bytes of keys that are read at once: a paste
WAITING_MAX = 64  # pieces that wait to be sent; then no more keys are read
TOLD_AFTER = 2  # attempts that failed: most losses are mended before anybody would read of them


@dataclass(frozen=True, slots=True)
class ShellOptions:
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    user: str | None
    attach: str | None
    replay: bool
    tag: str | None
    escape: str


def run_shell(sandbox: Sandbox, options: ShellOptions) -> int:
    """Gives the program's exit code; 0 where it was left, and runs on.

    Raises:
        InputError: there is no terminal here, or options that do not go together.
        NotFound: no such terminal in the sandbox.
        LinkError: the connection is lost for good.
    """
    leaving = Leaving.of(options.escape)
    if options.attach is not None and (options.argv or options.env or options.cwd or options.user):
        raise InputError(
            "--attach goes on with a terminal that is there: it takes no command, and no option of one"
        )
    if options.replay and options.attach is None:
        raise InputError("--replay is for --attach")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("there is no terminal here: wellhead sandbox exec runs a command without one")
    places = Places()
    view = _View(leaving)
    terminal = _opened(sandbox, options, places, view)
    place = Place(sandbox.id, terminal.tag)
    try:
        return view.run(terminal)
    finally:
        terminal.detach()
        if terminal.end is None:
            places.keep(place, terminal.pid, terminal.next)
            again = f"wellhead sandbox shell --attach {terminal.tag} {sandbox.id}"
            print(f"\r\n[left; it runs on: {again}]", file=sys.stderr, flush=True)
        else:
            places.forget(place)


def _opened(sandbox: Sandbox, options: ShellOptions, places: Places, view: _View) -> Terminal:
    columns, rows = size()
    if options.attach is None:
        return sandbox.terminal(
            options.argv or None,
            columns=columns,
            rows=rows,
            tag=options.tag,
            view=view.lasting,
            env=_terminal_env() | options.env,
            cwd=options.cwd,
            user=options.user,
        )
    kept = None if options.replay else places.find(Place(sandbox.id, options.attach))

    def attached(after: int) -> Terminal:
        tag = options.attach or ""
        return sandbox.attach_terminal(tag, after=after, columns=columns, rows=rows, view=view.lasting)

    terminal = attached(0 if kept is None else kept[1])
    if kept is not None and kept[0] != terminal.pid:  # another has the tag now
        terminal.detach()
        terminal = attached(0)
    terminal.resize(columns, rows)
    return terminal


def _terminal_env() -> dict[str, str]:
    """What programs want to know of this terminal."""
    env = {"TERM": os.environ.get("TERM") or "xterm-256color"}
    if colours := os.environ.get("COLORTERM"):
        env["COLORTERM"] = colours
    if locale.getpreferredencoding(False).lower().replace("-", "") == "utf8":
        env["LANG"] = "C.UTF-8"
    return env


class _View:
    """A terminal, shown and typed at until it ends or is left."""

    def __init__(self, leaving: Leaving) -> None:
        self._leaving = leaving
        self._modes = Modes()
        self._typed: queue.Queue[bytes] = queue.Queue(WAITING_MAX)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._failures = 0
        self._awake, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self.lasting: ViewOptions = {"reconnect_seconds": None, "noticed": self._noticed}

    def run(self, terminal: Terminal) -> int:
        """
        Raises:
            WellheadError: the connection is lost for good.
        """
        threads = [
            threading.Thread(target=work, args=(terminal,), name=work.__name__, daemon=True)
            for work in (self._show, self._send)
        ]
        with Raw(self._rouse) as raw:
            if keys := str(self._leaving):
                _say(f"[{keys} leaves this terminal, and it runs on]")
            if terminal.lost:
                _say(f"[{terminal.lost} bytes of what was written are gone]")
            for thread in threads:
                thread.start()
            left = self._read_keys(terminal, raw)
        write_all(1, self._modes.undo())
        if raw.ended_by is not None:
            return 128 + raw.ended_by
        if self._failure is not None:
            raise self._failure
        if left or terminal.end is None:
            return 0
        return terminal.end.status

    def _read_keys(self, terminal: Terminal, raw: Raw) -> bool:
        """Until the terminal is over, or is left: then True."""
        while not self._over.is_set() and raw.ended_by is None:
            wait = HELD_SECONDS if self._leaving.holds else None
            sources = [self._awake] if self._typed.full() else [self._awake, 0]
            ready, _, _ = select.select(sources, [], [], wait)
            if self._awake in ready:
                os.read(self._awake, 4096)
            if raw.resized:
                raw.resized = False
                self._resize(terminal)
            left = False
            if 0 in ready:
                if not (typed := os.read(0, PIECE)):  # the window is closed
                    return True
                keys, left = self._leaving.take(typed)
            elif not ready:
                keys = self._leaving.give_up()
            else:
                continue
            if keys:
                self._typed.put(keys)
            if left:
                return True
        return False

    def _resize(self, terminal: Terminal) -> None:
        columns, rows = size()
        # Not here: it may have to wait for the network.
        threading.Thread(target=_resize, args=(terminal, columns, rows), daemon=True).start()

    def _show(self, terminal: Terminal) -> None:
        with self._until_over():
            for data in terminal:
                self._modes.saw(data)
                write_all(1, data)

    def _send(self, terminal: Terminal) -> None:
        # Whoever shows is told why there is no more.
        with contextlib.suppress(WellheadError):
            while True:
                data = self._typed.get()
                self._rouse()
                terminal.send(data)

    @contextlib.contextmanager
    def _until_over(self) -> Iterator[None]:
        try:
            yield
        except (WellheadError, OSError) as error:
            self._failure = error
        finally:
            self._over.set()
            self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"x")

    def _noticed(self, error: WellheadError | None) -> None:
        if error is not None:
            self._failures += 1
            if self._failures == TOLD_AFTER:
                _say(f"[connection lost: {error}; trying again]")
            return
        if self._failures >= TOLD_AFTER:
            _say("[attached again]")
        self._failures = 0


def _resize(terminal: Terminal, columns: int, rows: int) -> None:
    with contextlib.suppress(WellheadError):  # it is over
        terminal.resize(columns, rows)


def _say(text: str) -> None:
    """A line of ours, whatever mode the terminal is in."""
    write_all(2, f"\r{escape(text)}\r\n".encode())
