"""How much this user has seen of each terminal that was left: ``$WELLHEAD_HOME/terminals/``."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.settings import home

KEPT_MAX = 200  # the youngest


@dataclass(frozen=True, slots=True)
class Place:
    """A terminal in a sandbox."""

    sandbox: str
    tag: str


class Places:
    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory if directory is not None else home() / "terminals"

    def find(self, place: Place) -> tuple[int, int] | None:
        """The pid of the program in it, and the number of the next byte; None where nothing is known.

        Raises:
            LocalStateError: the file is unsafe.
        """
        text = private.read(self._file(place))
        try:
            kept = json.loads(text or "null")
            return int(kept["pid"]), int(kept["next"])
        except (ValueError, TypeError, KeyError):
            return None

    def keep(self, place: Place, pid: int, number: int) -> None:
        """
        Raises:
            LocalStateError: it cannot be written.
        """
        private.make_directory(self._directory.parent)
        private.make_directory(self._directory)
        private.write(self._file(place), json.dumps({"pid": pid, "next": number}))
        with contextlib.suppress(OSError):
            files = sorted(self._directory.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-KEPT_MAX]:
                file.unlink(missing_ok=True)

    def forget(self, place: Place) -> None:
        try:
            self._file(place).unlink(missing_ok=True)
        except OSError as error:
            raise LocalStateError(f"cannot remove {self._file(place)}: {error.strerror}") from error

    def _file(self, place: Place) -> Path:
        return self._directory / f"{place.sandbox}.{quote(place.tag, safe='')}.json"
