"""Certificates in files, and which of them stands for a name.

Files are looked at again and again, by whatever thread asks: what changed is read anew, and a new file that
is not good leaves the pair that was read before in its place.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wellhead import issued
from wellhead.errors import LocalStateError, SettingsError
from wellhead.logs import Log
from wellhead.net.keypair import KeyPair, read_issued, read_operators

_log = Log("wellhead.edge")

_Files = tuple[Path] | tuple[Path, Path]  # a directory of an issued pair, or the operator's chain and key
_Stamp = tuple[tuple[int, int, int] | None, ...]  # of each file: time of its last change, inode and size


class Table:
    """The choice by name: the operator's pairs before issued ones, an exact name before a wildcard."""

    def __init__(self, operators: Sequence[KeyPair] = (), issued_pairs: Sequence[KeyPair] = ()) -> None:
        self.pairs = (*operators, *issued_pairs)
        self._ranks = (_by_name(operators), _by_name(issued_pairs))

    def find(self, name: str, now: dt.datetime) -> KeyPair | None:
        """The pair for a hostname (lower case, no dot at its end); one that is over only where all are.

        A wildcard stands for exactly one label, and only as the whole first one.
        Source: RFC 6125 section 6.4.3.
        """
        found = None
        for pair in self._candidates(name):
            if now < pair.ends:
                return pair
            found = found or pair
        return found

    def _candidates(self, name: str) -> Iterator[KeyPair]:
        label, dot, rest = name.partition(".")
        for rank in self._ranks:
            yield from rank.get(name, ())
            yield from rank.get("*." + rest, ()) if label and dot else ()


def _by_name(pairs: Sequence[KeyPair]) -> dict[str, list[KeyPair]]:
    named: dict[str, list[KeyPair]] = {}
    for pair in pairs:
        for name in pair.names:
            named.setdefault(name, []).append(pair)
    return named


def check(operators: Iterable[tuple[Path, Path]]) -> None:
    """Whether the operator's pairs of files can be served, whatever the time is.

    Raises:
        SettingsError: one cannot.
    """
    for chain_file, key_file in operators:
        try:
            read_operators(chain_file, key_file)
        except LocalStateError as error:
            raise SettingsError(f"tls_files: {error}") from error


class _Seen(NamedTuple):
    stamp: _Stamp  # empty: to be read again
    pair: KeyPair | None  # None: there never was a good one
    refused: str = ""  # why the files are not what the pair is


class CertificateFiles:
    """The operator's pairs of files, in the order of their rank, and the directory of issued ones.

    One thread at a time may look.
    """

    def __init__(self, operators: Iterable[tuple[Path, Path]], directory: Path) -> None:
        self._operators: tuple[_Files, ...] = tuple(operators)
        self._directory = directory
        self._seen: dict[_Files, _Seen] = {}

    def look(self, now: dt.datetime) -> Table | None:
        """What there is, or None where nothing changed since the last look. Reads files."""
        before = self._seen
        entries: list[_Files] = [(entry,) for entry in self._entries()]
        seen = {
            files: _again(before.get(files, _Seen((), None)), files, now)
            for files in (*self._operators, *entries)
        }
        for gone in before.keys() - seen.keys():
            _log.info("certificate is gone", file=gone[0])
        self._seen = seen
        if before and before == seen:
            return None
        operators, issued_pairs = (
            [pair for files in group if (pair := seen[files].pair) is not None]
            for group in (self._operators, entries)
        )
        return Table(operators, issued_pairs)

    def _entries(self) -> list[Path]:
        try:
            with os.scandir(self._directory) as found:
                return sorted(Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            _log.error("certificates cannot be read", directory=self._directory, reason=error.strerror)
            return [files[0] for files in self._seen if len(files) == 1]


def _again(seen: _Seen, files: _Files, now: dt.datetime) -> _Seen:
    """The pair of these files, where they changed since they were seen."""
    stamp = _stamp(files)
    if stamp == seen.stamp:
        return seen
    pair, refused = _read(files)
    if pair is not None and seen.pair is not None:
        refused = pair.out_of_time(now)
    if refused:
        if refused != seen.refused:
            kept = "none" if seen.pair is None else f"the one until {seen.pair.ends:%Y-%m-%d %H:%M} UTC"
            _log.error("certificate refused", reason=refused, kept=kept)
        return _Seen((), seen.pair, refused)
    if pair is not None and (seen.pair is None or pair.fingerprint != seen.pair.fingerprint):
        ends = f"{pair.ends:%Y-%m-%d %H:%M} UTC"
        _log.info("certificate loaded", file=pair.source, names=_shown(pair.names), ends=ends)
        if reason := pair.out_of_time(now):
            _log.error("certificate is not valid now", reason=reason)
    return _Seen(stamp, pair)


def _read(files: _Files) -> tuple[KeyPair | None, str]:
    """The pair, or why there is none."""
    try:
        return (read_issued(files[0]) if len(files) == 1 else read_operators(*files)), ""
    except LocalStateError as error:
        return None, str(error)


def _stamp(files: _Files) -> _Stamp:
    """What shows that one of the files is not what it was."""
    if len(files) == 1:
        return tuple(_stamp_of(files[0] / name) for name in (issued.CHAIN, issued.KEY, issued.NEXT_KEY))
    return tuple(map(_stamp_of, files))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ctime_ns, facts.st_ino, facts.st_size


def _shown(names: frozenset[str]) -> str:
    first = sorted(names)
    return ",".join(first[:5]) + (f" and {len(first) - 5} more" if len(first) > 5 else "")
