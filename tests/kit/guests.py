"""A guest as a program of its own, and a host that talks to it in plain blocking calls."""

from __future__ import annotations

import os
import pwd
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wellhead.guest.terms import GuestTerms
from wellhead.wire.guest import GuestFrame, GuestFrames, frame, message, read_message, read_numbered

PATIENCE_SECONDS = 60.0  # until a test that waits has failed

NAKED = GuestTerms(user="root" if os.geteuid() == 0 else "", chrooted=False, isolated=False)


class Call:
    """One operation. What is read is waited for, and fails the test when it does not come."""

    def __init__(self, path: Path, members: dict[str, object], *frames: bytes) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_SECONDS)
        self.sock.connect(str(path))
        self._frames = GuestFrames()
        self._ready: list[tuple[GuestFrame, bytes]] = []
        self.sock.sendall(message(members) + b"".join(frames))

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def input(self, data: bytes) -> None:
        self.send(frame(GuestFrame.INPUT, data))

    def end(self) -> None:
        self.send(frame(GuestFrame.END))

    def frame(self) -> tuple[GuestFrame, bytes] | None:
        """The next frame; None at the end."""
        while not self._ready:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._ready.extend(self._frames.receive(data))
        return self._ready.pop(0)

    def message(self) -> dict[str, Any]:
        found = self.frame()
        assert found is not None and found[0] is GuestFrame.MESSAGE, found
        return read_message(found[1])

    def answer(self) -> dict[str, Any]:
        """What is ``ok``, its lists whole, or the error."""
        lists: dict[str, list[object]] = {}
        while "more" in (members := self.message()):
            for name, items in members["more"].items():
                lists.setdefault(name, []).extend(items)
        if "ok" not in members:
            return members
        answer: dict[str, Any] = members["ok"]
        return {name: [*lists.get(name, ()), *item] if isinstance(item, list) else item
                for name, item in answer.items()}  # fmt: skip

    def rest(self) -> Ran:
        """Everything until the connection's end."""
        ran = Ran()
        while (found := self.frame()) is not None:
            ran.take(*found)
        return ran

    def numbered_until(self, wanted: bytes) -> tuple[int, bytes]:
        """A terminal's output up to some text in it: the number of its first byte, and the bytes."""
        first, seen = -1, bytearray()
        while seen.find(wanted, max(0, len(seen) - len(wanted) - (1 << 17))) < 0:  # a frame is half of that
            found = self.frame()
            assert found is not None and found[0] is GuestFrame.OUTPUT, (found, seen[-500:])
            offset, data = read_numbered(found[1])
            first = offset if first < 0 else first
            assert offset == first + len(seen)
            seen += data
        return first, bytes(seen)


class Ran:
    """What a call told until its end."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._err = bytearray()
        self.messages: list[dict[str, Any]] = []
        self.ended = False

    def take(self, kind: GuestFrame, payload: bytes) -> None:
        if kind is GuestFrame.OUTPUT:
            self._out += payload
        elif kind is GuestFrame.ERRORS:
            self._err += payload
        elif kind is GuestFrame.END:
            self.ended = True
        else:
            self.messages.append(read_message(payload))

    @property
    def out(self) -> bytes:
        return bytes(self._out)

    @property
    def err(self) -> bytes:
        return bytes(self._err)

    @property
    def exited(self) -> dict[str, Any]:
        exited: dict[str, Any] = self.messages[-1]["exited"]
        return exited

    @property
    def error(self) -> dict[str, str]:
        error: dict[str, str] = self.messages[-1]["error"]
        return error


class Guest:
    """A guest that runs."""

    def __init__(self, path: Path, home: Path, pid: int) -> None:
        self.path = path
        self.home = home
        self.pid = pid
        self.over = False  # a test has ended it already

    def call(self, do: str, *frames: bytes, **members: object) -> Call:
        return Call(self.path, {"do": do, **members}, *frames)

    def ask(self, do: str, *frames: bytes, **members: object) -> dict[str, Any]:
        """What a call answers that has one answer."""
        with self.call(do, *frames, **members) as call:
            return call.answer()

    def run(self, *argv: str, **members: object) -> Ran:
        """A program to its end."""
        with self.call("exec", argv=list(argv), **members) as call:
            return call.rest()

    def sh(self, script: str, **members: object) -> Ran:
        return self.run("sh", "-c", script, **members)

    def start(self, script: str, **members: object) -> dict[str, Any]:
        """A shell script in the background: its pid and tag."""
        with self.call("exec", argv=["sh", "-c", script], background=True, **members) as call:
            started: dict[str, Any] = call.message()["started"]
            return started

    def refuses(self, do: str, *frames: bytes, **members: object) -> tuple[str, str]:
        """Code and message of the error that a call answers."""
        answer = self.ask(do, *frames, **members)
        assert "error" in answer, answer
        return answer["error"]["code"], answer["error"]["message"]

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("processes")["processes"]
        return found


@contextmanager
def guest_program(
    terms: GuestTerms = NAKED,
    *,
    before: Sequence[str] = (),
    program: Sequence[str] = ("-m", "wellhead.guest"),
    pass_fds: Sequence[int] = (),
) -> Iterator[Guest]:
    """A guest with a home of its own, that is stopped in the end. ``before``: a program that starts it."""
    with tempfile.TemporaryDirectory(prefix="guest", ignore_cleanup_errors=True) as directory:
        path, home = Path(directory) / "guest.sock", Path(directory) / "home"
        home.mkdir()
        os.chmod(directory, 0o755)
        if not terms.user:
            terms = replace(terms, user=_me())
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen(1024)
            fd = listening.fileno()
            process = subprocess.Popen(
                [*before, sys.executable, *program, "--socket", str(fd), "--terms",
                 replace(terms, home=str(home)).to_json()],
                pass_fds=[fd, *pass_fds], cwd="/", stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            guest = Guest(path, home, process.pid)
            guest.ask("hello")
            yield guest
            if not guest.over:
                guest.ask("stop")
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def until_gone(pid: int) -> None:
    """Wait until a process is dead, and reaped or not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(PATIENCE_SECONDS * 1000), f"process {pid} lives"
    finally:
        os.close(fd)
