"""What is to be done to copy a file or a directory to a sandbox, or from it: steps, for whoever does them."""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wellhead.client.sandbox_records import FileEntry, FileType
from wellhead.errors import InputError, LocalStateError, ProtocolError
from wellhead.model.text import shown

PIECE = 256 * 1024  # bytes that are read at once
LINKS_MAX = 8  # that are followed, one after the other


@dataclass(frozen=True, slots=True)
class Departure:
    """Something here that is to be there, at ``target``: a directory, a file, or a link (to ``leads_to``)."""

    source: Path
    target: str
    mode: int
    is_directory: bool = False
    leads_to: str | None = None


def departures(source: Path, target: str) -> Iterator[Departure]:
    """A file, or a directory and all in it, each after the directory that it is in.

    What is neither file, directory nor symbolic link is left out.

    Raises:
        LocalStateError: something cannot be read.
        InputError: a name, or where a link leads, is no UTF-8.
    """
    try:
        facts = source.stat()  # who names a link means what it leads to
        yield from _departures(source, target.rstrip("/") or "/", facts)
    except OSError as error:
        raise LocalStateError(f"cannot read {error.filename}: {(error.strerror or '').lower()}") from error


def _departures(source: Path, target: str, facts: os.stat_result) -> Iterator[Departure]:
    mode = stat.S_IMODE(facts.st_mode)
    _check_name(target)
    if stat.S_ISLNK(facts.st_mode):
        yield Departure(source, target, mode, leads_to=_check_name(os.readlink(source)))
    elif stat.S_ISREG(facts.st_mode):
        yield Departure(source, target, mode)
    elif stat.S_ISDIR(facts.st_mode):
        yield Departure(source, target, mode, is_directory=True)
        for inner in sorted(source.iterdir()):
            yield from _departures(inner, f"{target.rstrip('/')}/{inner.name}", inner.lstat())


def _check_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown(name)} is no UTF-8, and cannot be copied") from None
    return name


def size_of(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


class Arrivals:
    """Something there that is to be here, at ``target``.

    ``list`` what is in each of ``directories`` and give it to ``found``; put the bytes of each file that this
    yields into ``file``; at the end, ``link``.
    """

    def __init__(self, entry: FileEntry, target: Path) -> None:
        self.directories: list[tuple[str, Path]] = []
        self._links: list[tuple[Path, str]] = []
        self._first = entry, target

    def begin(self) -> Iterator[tuple[FileEntry, Path]]:
        yield from self._met(*self._first)

    def found(self, entries: list[FileEntry], directory: Path) -> Iterator[tuple[FileEntry, Path]]:
        """The files among them.

        Raises:
            ProtocolError: a name that would lead elsewhere.
            LocalStateError: a directory cannot be made.
        """
        for entry in entries:
            if entry.name in ("", ".", "..") or "/" in entry.name or "\0" in entry.name:
                raise ProtocolError(f"{shown(entry.name)} is not the name of a file")
            yield from self._met(entry, directory / entry.name)

    def _met(self, entry: FileEntry, target: Path) -> Iterator[tuple[FileEntry, Path]]:
        match entry.type:
            case FileType.FILE:
                yield entry, target
            case FileType.DIRECTORY:
                with _writing(target):
                    if target.is_symlink() or not target.is_dir():
                        target.mkdir(mode=entry.mode & 0o777 | 0o700)
                self.directories.append((entry.path, target))
            case FileType.SYMLINK:
                self._links.append((target, entry.symlink_target or ""))
            case FileType.OTHER:
                pass

    def link(self) -> None:
        """Make the symbolic links. Last: nothing is written through one.

        Raises:
            LocalStateError: one cannot be made.
        """
        for target, leads_to in self._links:
            with _writing(target):
                if target.is_symlink():
                    target.unlink()
                target.symlink_to(leads_to)


def followed(entry: FileEntry) -> str:
    """Where a symbolic link leads."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.symlink_target or ""))


@contextlib.contextmanager
def arriving(entry: FileEntry, target: Path) -> Iterator[IO[bytes]]:
    """A file to write into, which is ``target`` at the end: whole or not at all.

    Raises:
        LocalStateError: it cannot be written.
    """
    if entry.type is not FileType.FILE:
        raise InputError(f"{shown(entry.path)} is a {entry.type.value}, not a file")
    with _writing(target):
        temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(temporary, flags, entry.mode & 0o777 | 0o200)
        try:
            with open(number, "wb") as file:
                yield file
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalStateError(f"cannot write {target}: {(error.strerror or str(error)).lower()}") from error
