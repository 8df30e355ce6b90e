"""What makes a machine a host of one server: ``{state}/host.json``, 0600."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from wellhead import private
from wellhead.errors import LocalStateError, SettingsError
from wellhead.model.access import Secret
from wellhead.model.names import split_authority
from wellhead.model.sandboxes import HostId

VERSION = 1


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int
    url: str
    edge: str
    host_id: str
    key: str
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """``url``: of the control plane. ``edge``: the authority that the host dials."""

    url: str
    edge: str
    host_id: HostId
    key: Secret = field(repr=False)
    ca_file: Path | None = None

    @property
    def edge_address(self) -> tuple[str, int]:
        """Hostname and port."""
        hostname, port = split_authority(self.edge)
        return hostname, port or 443

    @classmethod
    def load(cls, state: Path) -> Membership | None:
        """None where this machine is no host.

        Raises:
            LocalStateError: the file or its directory is unsafe, or damaged.
        """
        path = _path(state)
        if not state.exists():
            return None
        private.check_directory(state)
        text = private.read(path)
        if text is None:
            return None
        try:
            kept = _File.model_validate_json(text)
        except ValidationError:
            raise LocalStateError(f"{path} is damaged; move it away and join again") from None
        if kept.version != VERSION:
            raise LocalStateError(f"{path} is of version {kept.version}, not {VERSION}")
        return cls(
            kept.url, kept.edge, HostId(kept.host_id), Secret(kept.key),
            None if kept.ca_file is None else Path(kept.ca_file),
        )  # fmt: skip

    @classmethod
    def need(cls, state: Path) -> Membership:
        """
        Raises:
            SettingsError: this machine is no host yet.
            LocalStateError: as ``load``.
        """
        found = cls.load(state)
        if found is None:
            error = SettingsError(f"this machine is no host: there is no {_path(state)}")
            error.add_note("`wellhead host join --token …` makes it one; the server's admin makes the token")
            raise error
        return found

    def save(self, state: Path) -> None:
        """Whole or not at all.

        Raises:
            LocalStateError: it cannot be written.
        """
        private.make_directory(state)
        kept = _File(
            version=VERSION, url=self.url, edge=self.edge, host_id=self.host_id, key=self.key.reveal(),
            ca_file=None if self.ca_file is None else str(self.ca_file.absolute()),
        )  # fmt: skip
        private.write(_path(state), kept.model_dump_json(indent=2) + "\n")

    @staticmethod
    def drop(state: Path) -> None:
        """This machine is a host no more."""
        _path(state).unlink(missing_ok=True)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """No other program has this directory meanwhile.

    Raises:
        LocalStateError: one has, or the directory is unsafe.
    """
    private.make_directory(state)
    path = state / "lock"
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalStateError(f"cannot open {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalStateError(f"{state} is in use by another host program") from error
        yield
    finally:
        os.close(number)


def _path(state: Path) -> Path:
    return state / "host.json"
