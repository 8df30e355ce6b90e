"""``wellhead sandbox exec``: a command whose streams are this program's."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from wellhead.cli.asking import Ask
from wellhead.cli.output import put, tell
from wellhead.client.sandbox_records import Channel, Exit
from wellhead.errors import CommandTimeout, InputError, LinkError, StateError

if TYPE_CHECKING:
    from wellhead.client.exec_streams import ExecStream
    from wellhead.client.sandboxes import Sandbox

PIECE = 32 * 1024  # bytes of stdin that are read at once


@dataclass(frozen=True, slots=True)
class ExecOptions:
    argv: list[str]
    env: dict[str, str]
    cwd: str | None
    user: str | None
    timeout: float | None
    detach: bool
    tag: str | None


def run_exec(ask: Ask, sandbox: Sandbox, options: ExecOptions) -> int:
    """Gives the command's exit code.

    Raises:
        InputError: no command.
        CommandTimeout: its time was over.
    """
    if not options.argv:
        raise InputError("a command is needed: wellhead sandbox exec ID -- COMMAND [ARG]…")
    if options.detach:
        if options.timeout is not None:
            raise InputError("--timeout is for a command that is waited for, and --detach waits for none")
        started = sandbox.start(
            options.argv, env=options.env, cwd=options.cwd, user=options.user, tag=options.tag
        )
        lines = [f"pid {started.pid}, tag {started.tag}: wellhead sandbox logs -f {sandbox.id} {started.tag}"]
        ask.tell(started, lines, [str(started.tag)])
        return 0
    has_input = sys.stdin is not None and not sys.stdin.isatty()
    with sandbox.exec_stream(
        options.argv,
        stdin=has_input,
        tag=options.tag,
        env=options.env,
        cwd=options.cwd,
        user=options.user,
        timeout_seconds=options.timeout,
    ) as running:
        with _interruptible(running):
            if has_input:
                threading.Thread(target=_feed, args=(running,), name="stdin", daemon=True).start()
            if ask.as_json:
                return _told_as_json(running)
            if not carry(running):
                return 0
    return _status(running.end, options.timeout)


def carry(running: ExecStream, end: int | None = None) -> bool:
    """Put what a command writes on stdout and stderr, as bytes, at once; up to the byte ``end``, if given.

    False where nobody reads it any more.
    """
    if end is not None and running.next >= end:
        return True
    for output in running:
        if output.channel is Channel.STDERR:
            sys.stderr.buffer.write(output.data)
            sys.stderr.flush()
        elif not put(output.data):
            return False
        if end is not None and running.next >= end:
            break
    return True


def _told_as_json(running: ExecStream) -> int:
    done = running.result()
    try:
        written, encoding = {"stdout": done.stdout.decode(), "stderr": done.stderr.decode()}, "utf-8"
    except UnicodeDecodeError:
        streams = {"stdout": done.stdout, "stderr": done.stderr}
        written = {name: base64.b64encode(data).decode() for name, data in streams.items()}
        encoding = "base64"
    ended = {"encoding": encoding, "exit_code": done.exit_code, "signal": done.signal}
    tell(json.dumps(written | ended, indent=2))
    return Exit(done.exit_code, done.signal).status


def _status(end: Exit | None, seconds: float | None) -> int:
    if end is None:
        raise StateError("the command ended, and nobody said how")
    if end.timed_out:
        raise CommandTimeout(f"the command did not end within {seconds:g} s, and was killed")
    return end.status


def _feed(running: ExecStream) -> None:
    """Give it what comes on stdin, to the end."""
    # It may end before it has read all of it.
    with contextlib.suppress(LinkError, OSError):
        while data := os.read(0, PIECE):
            running.send(data)
        running.close_stdin()


@contextlib.contextmanager
def _interruptible(running: ExecStream) -> Iterator[None]:
    """Ctrl-C and SIGTERM are the command's, the first time; the second time they end this program."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        heard = signal.Signals(number)
        signal.signal(heard, before[heard])
        # Not here: whatever was interrupted may be in the midst of sending.
        threading.Thread(target=_send, args=(running, heard.name), daemon=True).start()

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(running: ExecStream, name: str) -> None:
    with contextlib.suppress(LinkError):
        running.signal(name)
