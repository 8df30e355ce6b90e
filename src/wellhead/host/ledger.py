"""What a host keeps of each sandbox for its own next start: ``{state}/ledger/{id}.json``.

Written before the sandbox is made and taken away after it has ended, so that one which ended while nobody
looked is known to have been there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wellhead import private
from wellhead.errors import InputError, LocalStateError
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId, read_sandbox_id

_log = Log("wellhead.host")


class Line(BaseModel):
    """One sandbox's. Seconds; ``started_at`` since 1970."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = 1
    template: str
    timeout_seconds: float
    started_at: float
    env: Mapping[str, str] = {}


class Ledger:
    """The lines under ``state``. Its calls wait for the disk: not for a loop's thread."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "ledger"

    def save(self, sandbox: SandboxId, line: Line) -> None:
        """
        Raises:
            LocalStateError: it cannot be written.
        """
        private.make_directory(self._directory)
        private.write(self._path(sandbox), line.model_dump_json() + "\n")

    def drop(self, sandbox: SandboxId) -> None:
        """
        Raises:
            LocalStateError: it cannot be taken away.
        """
        try:
            self._path(sandbox).unlink(missing_ok=True)
        except OSError as error:
            raise LocalStateError(
                f"cannot remove {self._path(sandbox)}: {(error.strerror or str(error)).lower()}"
            ) from error

    def lines(self) -> dict[SandboxId, Line]:
        """All of them. One that cannot be read is left where it is, and said."""
        if not self._directory.is_dir():
            return {}
        found = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                found[SandboxId(read_sandbox_id(path.stem))] = Line.model_validate_json(
                    private.read(path) or ""
                )
            except (InputError, LocalStateError, ValidationError) as error:
                _log.warning("ledger line unreadable", path=path, error=type(error).__name__)
        return found

    def _path(self, sandbox: SandboxId) -> Path:
        return self._directory / f"{sandbox}.json"
