"""Orders as files, so that a restart takes them up again: named by the request's digest, 0600, for a day."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.logs import Log

KEPT: Final = dt.timedelta(days=1)

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Kept:
    url: str
    directory: str  # the authority's
    names: tuple[str, ...]
    made_at: dt.datetime


_kept: TypeAdapter[Kept] = TypeAdapter(Kept)


class KeptOrders:
    """
    Raises:
        LocalStateError: the directory is unsafe.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = private.make_directory(directory)

    def get(self, digest: str, now: dt.datetime) -> Kept | None:
        """None where there is none, where it is too old, or where its file is not to be trusted."""
        path = self._path(digest)
        try:
            text = private.read(path)
            kept = None if text is None else _kept.validate_json(text)
        except (ValidationError, LocalStateError) as error:
            _log.warning("order not taken up again", file=str(path), reason=type(error).__name__)
            return None
        return kept if kept is not None and now - kept.made_at < KEPT else None

    def put(self, digest: str, kept: Kept) -> None:
        """
        Raises:
            LocalStateError: it cannot be written.
        """
        oldest = (kept.made_at - KEPT).timestamp()
        for old in self._directory.glob("*.json"):
            if old.stat().st_mtime < oldest:
                old.unlink(missing_ok=True)
        private.write(self._path(digest), _kept.dump_json(kept, indent=2).decode() + "\n")

    def forget(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}.json"
