"""Entries of a directory as the host sees them, and walking, removing and moving them.

Plain calls with the rights of whoever calls: see ``wellhead.guest.worker``. Errors are OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wellhead.guest.refusal import Refusal, Word
from wellhead.model.text import shown

ENTRIES_MAX = 100_000  # of one list

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


@dataclass(frozen=True, slots=True)
class Names:
    """What users and groups are called, by number; one without a name is shown by its number."""

    users: Mapping[int, str]
    groups: Mapping[int, str]


def entry(path: str, about: os.stat_result, names: Names) -> dict[str, object]:
    """What lies at a path, and is ``about`` so."""
    seen: dict[str, object] = {
        "name": _text(os.path.basename(path.rstrip("/")) or "/"),
        "path": _text(path),
        "type": _TYPES.get(stat.S_IFMT(about.st_mode), "other"),
        "size": about.st_size,
        "mode": stat.S_IMODE(about.st_mode),
        "owner": names.users.get(about.st_uid, str(about.st_uid)),
        "group": names.groups.get(about.st_gid, str(about.st_gid)),
        "modified_at": int(about.st_mtime),
    }
    if seen["type"] == "symlink":
        seen["symlink_target"] = _text(os.readlink(path))
    return seen


def walk(path: str, depth: int, names: Names) -> Iterator[dict[str, object]]:
    """What is in a directory, by name, and in those within down to ``depth``.

    Raises:
        Refusal: more than ENTRIES_MAX (too_large).
    """
    left = ENTRIES_MAX
    for found in _walk(path, depth):
        left -= 1
        if left < 0:
            raise Refusal(Word.TOO_LARGE, f"{shown(path)} has more than {ENTRIES_MAX} entries")
        try:
            yield entry(found, os.lstat(found), names)
        except FileNotFoundError:  # it went away meanwhile
            left += 1


def _walk(path: str, depth: int) -> Iterator[str]:
    on_the_way = [_inside(path)]
    while on_the_way:
        found = next(on_the_way[-1], None)
        if found is None:
            on_the_way.pop()
            continue
        at, is_directory = found
        yield at
        if is_directory and len(on_the_way) < depth:
            with contextlib.suppress(
                OSError
            ):  # what may not be looked into is shown, and what is in it is not
                on_the_way.append(_inside(at))


def _inside(path: str) -> Iterator[tuple[str, bool]]:
    """What is in a directory, by name, and whether it is one itself."""
    with os.scandir(path) as found:
        return iter(sorted((each.path, each.is_dir(follow_symlinks=False)) for each in found))


def make_directory(path: str, *, parents: bool, exist_ok: bool) -> None:
    if parents:
        os.makedirs(os.path.dirname(path.rstrip("/")) or "/", exist_ok=True)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not (exist_ok and os.path.isdir(path)):
            raise


def remove(path: str, *, recursive: bool) -> None:
    """A symbolic link is removed itself. A directory with something in it only where ``recursive``."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif recursive:
        _refuse_root(path)
        shutil.rmtree(path)
    else:
        _refuse_root(path)
        os.rmdir(path)


def move(source: str, target: str, *, overwrite: bool) -> None:
    """In one step where both are on one disk; else a copy that is there in one step, and then the source
    goes.

    What is there already is replaced only where ``overwrite``; a directory only when it is empty.
    """
    _refuse_root(source)
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, target)


def _move_across(source: str, target: str) -> None:
    copy = beside(target)
    try:
        if stat.S_ISDIR(os.lstat(source).st_mode):
            shutil.copytree(source, copy, symlinks=True)
        else:
            shutil.copy2(source, copy, follow_symlinks=False)
        if os.geteuid() == 0:
            _give_owners(source, copy)
        os.rename(copy, target)
    except BaseException:
        if os.path.lexists(copy):
            remove(copy, recursive=True)
        raise
    remove(source, recursive=True)


def _give_owners(source: str, copy: str) -> None:
    for directory, _, files in os.walk(source):
        for name in [".", *files]:
            found = os.path.join(directory, name)
            about = os.lstat(found)
            os.lchown(os.path.join(copy, os.path.relpath(found, source)), about.st_uid, about.st_gid)
    if not os.path.isdir(source) or os.path.islink(source):
        about = os.lstat(source)
        os.lchown(copy, about.st_uid, about.st_gid)


def beside(path: str) -> str:
    """A name in the same directory that nobody has."""
    directory = os.path.dirname(path.rstrip("/"))
    return os.path.join(directory, f".wellhead-{os.urandom(8).hex()}")


def _refuse_root(path: str) -> None:
    if os.path.realpath(path) == "/":
        raise Refusal(Word.FORBIDDEN, "the root directory stays")


def _text(name: str) -> str:
    """A file's name as text; bytes in it that are no UTF-8 show as U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")
