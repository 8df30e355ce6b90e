"""Private files: keys and secrets on disk that nobody else can read, swap or half-write.

A directory is 0700 and a secret file 0600 from the moment it exists. Whatever is a symbolic link, belongs to
another user or is open to others is refused instead of repaired: somebody else may have put it there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from wellhead.errors import LocalStateError


def private_directory(path: Path) -> Path:
    """Make sure of a directory that only we can write to; made with 0700 when it is missing.

    Raises:
        LocalStateError: it is a link, not a directory, another user's, writable by others, or lies in a
            directory where others may replace it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(path)
        above = os.stat(path.parent)
    except FileExistsError as error:
        raise LocalStateError(f"{path} is not a directory") from error
    except OSError as error:
        raise LocalStateError(f"{path} cannot be made: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        raise LocalStateError(f"{path} is a symbolic link; name the directory itself")
    _check_owner(path, found)
    if found.st_mode & 0o022:
        raise LocalStateError(f"{path} is writable by other users; chmod 700 it")
    if above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
        raise LocalStateError(f"{path.parent} is writable by everybody, so {path.name} in it is not safe")
    return path


def read_private(path: Path, *, secret: bool = True, limit: int = 1 << 20) -> bytes | None:
    """A file's content, or None when there is no such file.

    Raises:
        LocalStateError: it is a link, no plain file, another user's, longer than ``limit`` bytes, writable by
            others or, when ``secret``, readable by them.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise LocalStateError(f"{path} is a symbolic link; refused") from error
        raise LocalStateError(f"{path} cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise LocalStateError(f"{path} is not a plain file")
        _check_owner(path, found)
        if found.st_mode & (0o077 if secret else 0o022):
            raise LocalStateError(f"{path} has mode {found.st_mode & 0o777:04o}; chmod 600 it")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise LocalStateError(f"{path} is longer than {limit} bytes")
    return content


def write_private(path: Path, content: bytes, *, mode: int = 0o600, replace: bool = True) -> bool:
    """Write a file whole or not at all: a new file, synced, then given its name, then the name synced.

    With ``replace=False`` a file already there stays, also when another process makes it at this moment.

    Returns:
        Whether the content is now the file's.

    Raises:
        LocalStateError: the disk is full, the directory is not writable, ...; the old content survives.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        if not replace:
            return False
        raise
    except OSError as error:
        raise LocalStateError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise LocalStateError(f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()}")
