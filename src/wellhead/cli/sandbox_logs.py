"""``wellhead sandbox logs``: what a background process or a terminal wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from wellhead.cli.output import put
from wellhead.cli.sandbox_exec import carry
from wellhead.client.sandbox_records import ProcessKind
from wellhead.errors import NotFound

if TYPE_CHECKING:
    from wellhead.client.sandboxes import Sandbox


def run_logs(sandbox: Sandbox, process: str, *, follow: bool) -> None:
    """
    Raises:
        NotFound: there is no such process or terminal, or it ended more than a minute ago.
    """
    tags = {each.tag for each in sandbox.processes.list() if each.kind is ProcessKind.TERMINAL}
    if process in tags:
        return _of_terminal(sandbox, process, follow)
    try:
        _of_process(sandbox, process, follow)
    except NotFound:  # a terminal that ended is not listed, and kept for a while
        _of_terminal(sandbox, process, follow)


def _of_process(sandbox: Sandbox, process: str, follow: bool) -> None:
    if follow:
        with sandbox.processes.attach(process) as running:
            _tell_lost(running.lost)
            carry(running)
        return
    with sandbox.processes.attach(process, after=None) as running:
        end = running.next
    with sandbox.processes.attach(process) as running:
        _tell_lost(running.lost)
        carry(running, end)


def _of_terminal(sandbox: Sandbox, tag: str, follow: bool) -> None:
    end = None
    if not follow:
        with sandbox.attach_terminal(tag, after=None) as terminal:
            end = terminal.next
    with sandbox.attach_terminal(tag) as terminal:
        _tell_lost(terminal.lost)
        while end is None or terminal.next < end:
            if not (data := terminal.read()) or not put(data):
                break


def _tell_lost(size: int) -> None:
    if size:
        print(f"the first {size} bytes are gone", file=sys.stderr, flush=True)
