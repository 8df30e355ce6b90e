"""Operations on files and directories, each done by a worker as its user."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from wellhead.guest import places
from wellhead.guest.asked import Asked
from wellhead.guest.places import Names
from wellhead.guest.refusal import Refusal, Word, refused
from wellhead.guest.replacement import Replacement, check_regular
from wellhead.guest.spawn import place
from wellhead.guest.terms import GuestTerms
from wellhead.guest.users import User, find_user, names, system_names
from wellhead.guest.worker import Line
from wellhead.model.text import shown
from wellhead.wire.guest import GuestFrame, frame

SIZE_MAX = 2**63 - 1  # bytes, the most a file can have
_DEPTH_MAX = 1000
_CHUNK = 256 * 1024  # bytes read at once

Job = Callable[[Line], None]


def prepare(asked: Asked, terms: GuestTerms) -> tuple[User, Job]:
    """Who does an operation on files, and what is to be done.

    Raises:
        Refusal: a member is not what it must be, or there is no such user.
    """
    user = find_user(asked.text("user"), terms)
    known = Names(*(names() if terms.chrooted else system_names()))
    job = _JOBS[asked.must("do")](asked, user, known)
    return user, job


def _path(asked: Asked, user: User, name: str = "path") -> str:
    path = place(asked.must(name), user)
    return path.rstrip("/") or "/"


@contextlib.contextmanager
def _about(path: str) -> Iterator[None]:
    """Failed calls are refusals that name this path."""
    try:
        yield
    except OSError as error:
        raise refused(error, shown(path)) from error


def _stat(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)

    def job(line: Line) -> None:
        with _about(path):
            line.answer({"ok": {"entry": places.entry(path, os.lstat(path), known)}})

    return job


def _list(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)
    depth = asked.whole("depth", 0, _DEPTH_MAX) or 1

    def job(line: Line) -> None:
        with _about(path):
            if not stat.S_ISDIR(os.stat(path).st_mode):
                raise Refusal(Word.INVALID, f"{shown(path)} is not a directory")
            line.answer_list("entries", places.walk(path, depth, known))

    return job


def _mkdir(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)
    parents, exist_ok = asked.flag("parents"), asked.flag("exist_ok")

    def job(line: Line) -> None:
        with _about(path):
            places.make_directory(path, parents=parents, exist_ok=exist_ok)
            line.answer({"ok": {"entry": places.entry(path, os.stat(path), known)}})

    return job


def _remove(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)
    recursive = asked.flag("recursive")

    def job(line: Line) -> None:
        with _about(path):
            places.remove(path, recursive=recursive)
        line.answer({"ok": {}})

    return job


def _move(asked: Asked, user: User, known: Names) -> Job:
    source, target = _path(asked, user, "source"), _path(asked, user, "target")
    overwrite = asked.flag("overwrite")

    def job(line: Line) -> None:
        with _about(source):
            os.lstat(source)
        with _about(target):
            places.move(source, target, overwrite=overwrite)
            line.answer({"ok": {"entry": places.entry(target, os.lstat(target), known)}})

    return job


def _read(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)
    offset = asked.whole("offset", 0, SIZE_MAX) or 0
    length = asked.whole("length", 0, SIZE_MAX)

    def job(line: Line) -> None:
        with _about(path):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            about = os.fstat(fd)
            check_regular(shown(path), about)
            os.lseek(fd, offset, os.SEEK_SET)
            line.answer({"ok": {"entry": places.entry(path, about, known)}})
            left = SIZE_MAX if length is None else length
            while data := os.read(fd, min(_CHUNK, left)):
                left -= len(data)
                line.send(frame(GuestFrame.OUTPUT, data))
        line.send(frame(GuestFrame.END))

    return job


def _write(asked: Asked, user: User, known: Names) -> Job:
    path = _path(asked, user)
    mode = asked.whole("mode", 0, 0o7777)
    size = asked.whole("size", 0, SIZE_MAX)

    def job(line: Line) -> None:
        with _about(path):
            with Replacement(path, mode, size) as replacement:
                for piece in line.received():
                    replacement.write(piece)
                replacement.finish()
            line.answer({"ok": {"entry": places.entry(path, os.stat(path), known)}})

    return job


_JOBS: dict[str, Callable[[Asked, User, Names], Job]] = {
    "stat": _stat,
    "list": _list,
    "mkdir": _mkdir,
    "remove": _remove,
    "move": _move,
    "read": _read,
    "write": _write,
}
OPERATIONS = tuple(_JOBS)
