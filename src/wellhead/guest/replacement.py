"""A file that takes a place all at once, when it is complete, or never."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from types import TracebackType

from wellhead.guest.places import beside
from wellhead.guest.refusal import Refusal, Word
from wellhead.model.text import shown

_MODE = 0o644  # of a new file that no mode is asked for


class Replacement:
    """New content for ``path``, made beside it. Symbolic links are followed, and directories above it are
    made.

    What is there keeps its owner, where the caller may give files away, and its mode unless one is asked for.
    Leaving before ``finish`` leaves nothing behind. Errors are OSError, or Refusal.
    """

    def __init__(self, path: str, mode: int | None, size: int | None) -> None:
        self._shown = shown(path)
        self._target = os.path.realpath(path)
        self._size = size
        self._written = 0
        directory = os.path.dirname(self._target)
        os.makedirs(directory, exist_ok=True)
        self._old = self._look()
        self._mode = mode if mode is not None else stat.S_IMODE(self._old.st_mode) if self._old else _MODE
        self._check_space(directory)
        self._temporary = beside(self._target)
        self._fd = os.open(
            self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._size is not None and self._written > self._size:
            raise Refusal(Word.INVALID, f"{self._shown}: more came than the {self._size} bytes told")
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self) -> None:
        """All was written: have it take its place."""
        if self._size is not None and self._written < self._size:
            raise Refusal(Word.INVALID, f"{self._shown}: {self._written} bytes came of {self._size} told")
        if self._old is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(self._fd, self._old.st_uid, self._old.st_gid)
        os.fchmod(self._fd, self._mode)
        os.rename(self._temporary, self._target)

    def _look(self) -> os.stat_result | None:
        try:
            old = os.lstat(self._target)
        except FileNotFoundError:
            return None
        check_regular(self._shown, old)
        if not os.access(self._target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return old

    def _check_space(self, directory: str) -> None:
        if self._size is not None:
            disk = os.statvfs(directory)
            if self._size > disk.f_bavail * disk.f_frsize:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_regular(path: str, about: os.stat_result) -> None:
    """
    Raises:
        Refusal: a directory, a device, a fifo or whatever else is not a plain file (invalid).
    """
    if not stat.S_ISREG(about.st_mode):
        what = "a directory" if stat.S_ISDIR(about.st_mode) else "not a regular file"
        raise Refusal(Word.INVALID, f"{path} is {what}")
