"""Files that hold secrets: 0600 in a 0700 directory of ours, written whole or not at all.

A directory or file that somebody else could have put there is refused, not repaired.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from wellhead.errors import LocalStateError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_directory(path: Path) -> Path:
    """Make a directory 0700, its missing parents too, and check what is there.

    Raises:
        LocalStateError: as ``check_directory``, or it cannot be made.
    """
    missing = [p for p in (path, *path.parents) if not os.path.lexists(p)]
    try:
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalStateError(f"cannot make the directory {path}: {_why(error)}") from error
    check_directory(path)
    return path


def check_directory(path: Path) -> None:
    """
    Raises:
        LocalStateError: a symbolic link, no directory, another user's, writable for others, or in a directory
            where others may put it in place of ours.
    """
    try:
        facts, parent = path.lstat(), path.absolute().parent.stat()
    except OSError as error:
        raise LocalStateError(f"cannot read the directory {path}: {_why(error)}") from error
    if stat.S_ISLNK(facts.st_mode):
        raise LocalStateError(f"{path} is a symbolic link, expected a directory")
    if not stat.S_ISDIR(facts.st_mode):
        raise LocalStateError(f"{path} is not a directory")
    if facts.st_uid != os.geteuid():
        raise LocalStateError(f"{path} belongs to user {facts.st_uid}, expected {os.geteuid()}")
    if facts.st_mode & 0o022:
        raise LocalStateError(
            f"{path} has mode {_mode(facts)}, others may write into it; run: chmod 700 {path}"
        )
    if parent.st_mode & 0o002 and not parent.st_mode & stat.S_ISVTX:
        raise LocalStateError(
            f"{path.absolute().parent} is writable for everybody, so {path} cannot be trusted"
        )


def read(path: Path) -> str | None:
    """The text of a private file, None when there is none.

    Raises:
        LocalStateError: a symbolic link, another user's, open to others, unreadable, or not UTF-8.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else _why(error)
        raise LocalStateError(f"cannot read {path}: {why}") from error
    return _text(path, number, _check_ours)


def _text(path: Path, number: int, check: Callable[[Path, os.stat_result], None]) -> str:
    """What is in an open file that ``check`` lets pass; it is closed."""
    try:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            raise LocalStateError(f"{path} is not a file")
        check(path, facts)
        with open(number, encoding="utf-8", closefd=False) as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalStateError(f"cannot read {path}: {error}") from error
    finally:
        os.close(number)


def _check_ours(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise LocalStateError(f"{path} belongs to user {facts.st_uid}, expected {os.geteuid()}")
    if facts.st_mode & 0o077:
        raise LocalStateError(f"{path} has mode {_mode(facts)}, expected 600; run: chmod 600 {path}")


def read_kept(path: Path) -> str:
    """The text of a secret that an operator keeps where they like, behind symbolic links too.

    Its owner is this user or root, and its group may read it: so other programs keep their keys.

    Raises:
        LocalStateError: missing, unreadable, not UTF-8, another user's, or open to others.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LocalStateError(f"cannot read {path}: {_why(error)}") from error
    return _text(path, number, _check_kept)


def _check_kept(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid not in (os.geteuid(), 0):
        raise LocalStateError(f"{path} belongs to user {facts.st_uid}, expected {os.geteuid()} or 0")
    if facts.st_mode & 0o027:
        raise LocalStateError(
            f"{path} has mode {_mode(facts)}, expected 600 or 640; run: chmod u=rw,g-wx,o= {path}"
        )


def write(path: Path, text: str) -> None:
    """Put a private file in place, 0600: synced and renamed, so a crash leaves the old text or the new one.

    Raises:
        LocalStateError: its directory is refused (``check_directory``), or it cannot be written.
    """
    _write(path, text, os.replace)


def write_once(path: Path, text: str) -> None:
    """As ``write``, but what is there stays: of several who write at once, one does.

    Raises:
        LocalStateError: as ``write``.
    """
    with contextlib.suppress(FileExistsError):
        _write(path, text, _name_once)


def _write(path: Path, text: str, name: Callable[[Path, Path], None]) -> None:
    """Write a file, and have ``name(written, path)`` put it in place."""
    check_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with open(os.open(temporary, _NEW, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            name(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise LocalStateError(f"cannot write {path}: {_why(error)}") from error


def _name_once(written: Path, path: Path) -> None:
    os.link(written, path)  # unlike a rename it fails where the name is taken
    written.unlink()


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _mode(facts: os.stat_result) -> str:
    return f"{stat.S_IMODE(facts.st_mode):o}"


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
