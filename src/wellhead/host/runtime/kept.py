"""What a host writes down of each sandbox, so that its next program finds those that still run.

``{state}/sandboxes/{id}/state.json``, 0600; beside it whatever else the runtime keeps of that sandbox.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wellhead import private
from wellhead.errors import HostError, HostNotFound, InputError, LocalStateError
from wellhead.host.runtime import processes
from wellhead.host.runtime.runtime import Running, SandboxSpec
from wellhead.model.sandboxes import SandboxId, read_sandbox_id

_FILE = "state.json"
_SOCKET = "guest.sock"
_SOCKET_MAX = 100  # bytes; the kernel takes 107, macOS 103
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Kept:
    """A sandbox as it is written down.

    ``pid`` and ``born``: its first process, as the host sees it, and what tells it from a later process
    with that number. ``notes``: what only the runtime that wrote it understands.
    """

    spec: SandboxSpec
    pid: int
    born: str
    guest_socket: Path
    paused: bool = False
    address: str = ""
    slot: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)

    def is_alive(self) -> bool:
        return processes.born(self.pid) == self.born

    def running(self) -> Running:
        return Running(
            spec=self.spec, guest_socket=self.guest_socket, paused=self.paused,
            address=self.address, slot=self.slot,
        )  # fmt: skip

    def with_paused(self, paused: bool, **notes: str) -> Kept:
        return replace(self, paused=paused, notes={**self.notes, **notes})


_adapter = TypeAdapter(Kept)


class KeptSandboxes:
    """The sandboxes that are written down in a host's state directory."""

    def __init__(self, state: Path) -> None:
        self._place = state / "sandboxes"

    def path(self, sandbox: SandboxId) -> Path:
        """Where everything of a sandbox is kept; it may not be there."""
        return self._place / sandbox

    def directory(self, sandbox: SandboxId) -> Path:
        """The same, made where it is not there, 0700.

        Raises:
            HostError: it cannot be made, or is not safe.
        """
        with told():
            return private.make_directory(self.path(sandbox))

    def write(self, kept: Kept) -> None:
        """
        Raises:
            HostError: it cannot be written.
        """
        directory = self.directory(kept.spec.id)
        with told():
            private.write(directory / _FILE, json.dumps(asdict(kept), default=_plain))

    def read(self, sandbox: SandboxId) -> Kept | None:
        """None when nothing was written of it.

        Raises:
            HostError: it cannot be read or understood.
        """
        path = self.path(sandbox) / _FILE
        with told():
            text = private.read(path)
        if text is None:
            return None
        try:
            return _adapter.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise HostError(f"{path} is not the state of a sandbox: {place}: {first['msg']}") from error

    def get(self, sandbox: SandboxId) -> Kept:
        """
        Raises:
            HostNotFound: there is no such sandbox here.
            HostError: what was written cannot be read or understood.
        """
        if (kept := self.read(sandbox)) is None:
            raise HostNotFound(f"there is no sandbox {sandbox} on this host")
        return kept

    def ids(self) -> list[SandboxId]:
        """Every sandbox that has a directory, also one of which nothing was written down."""
        found = []
        if self._place.is_dir():
            for name in sorted(os.listdir(self._place)):
                with contextlib.suppress(InputError):
                    found.append(read_sandbox_id(name))
        return found

    def remove(self, sandbox: SandboxId) -> None:
        """Remove the directory of a sandbox with all that is in it, and its socket.

        Raises:
            HostError: something of it cannot be removed.
        """
        with contextlib.suppress(HostError):
            if (kept := self.read(sandbox)) is not None and kept.guest_socket.name == _SOCKET:
                free_guest(kept.guest_socket)
        remove_tree(self.path(sandbox))


def bind_guest(directory: Path) -> tuple[socket.socket, Path]:
    """A listening unix socket for a sandbox's guest, and where it is.

    That is in ``directory``, or where such a path is too long for a socket, in a short one of its own.

    Raises:
        HostError: it cannot be bound.
    """
    path = directory / _SOCKET
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) > _SOCKET_MAX:
            path = Path(tempfile.mkdtemp(prefix="wellhead-"), _SOCKET)
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise HostError(f"cannot listen on {path}: {error.strerror or error}") from error
    return listening, path


def free_guest(path: Path) -> None:
    """Remove a socket of ``bind_guest``, and its directory where that is its own."""
    path.unlink(missing_ok=True)
    if path.parent.name.startswith("wellhead-"):
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, also what its owner may not read, however deep it is.

    Raises:
        HostError: something of it cannot be removed.
    """
    try:
        if path.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link")
        _remove_flat(os.fspath(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"cannot remove {path}: {error}") from error


def _remove_flat(root: str) -> None:
    """What is deeper is moved up to the root first, so that no path gets longer than a path can be."""
    aside = f"{root}/.{secrets.token_hex(8)}-"
    waiting = [root]
    moved = 0
    while waiting:
        directory = waiting.pop()
        os.chmod(directory, 0o700)
        with os.scandir(directory) as found:
            entries = list(found)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif directory == root:
                waiting.append(entry.path)
            else:
                os.chmod(entry.path, 0o700)  # to be moved it must be writable
                moved += 1
                os.rename(entry.path, f"{aside}{moved}")
                waiting.append(f"{aside}{moved}")
        if directory != root:
            os.rmdir(directory)
    os.rmdir(root)


def _plain(item: object) -> object:
    if isinstance(item, Path):
        return str(item)
    raise TypeError(f"{type(item).__name__} in the state of a sandbox")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What is wrong with files of ours is the host's error."""
    try:
        yield
    except LocalStateError as error:
        raise HostError(str(error)) from error
