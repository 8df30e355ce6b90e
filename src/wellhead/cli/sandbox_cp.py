"""``wellhead sandbox cp``: files and directories, to a sandbox and back."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wellhead.cli.asking import sandbox_of
from wellhead.cli.output import put
from wellhead.client.sandbox_records import FileType
from wellhead.errors import InputError, NotFound
from wellhead.model.sandboxes import SandboxId, read_sandbox_id
from wellhead.model.text import shown

if TYPE_CHECKING:
    from wellhead.client import Client
    from wellhead.client.sandboxes import Sandbox

PIECE = 256 * 1024  # bytes of stdin that are read at once


@dataclass(frozen=True, slots=True)
class Place:
    """A path here, or in a sandbox; ``-`` is a stream."""

    path: str
    sandbox: SandboxId | None = None


def place(text: str) -> Place:
    """
    Raises:
        InputError: it begins as a path in a sandbox does, and is none.
    """
    name, colon, path = text.partition(":")
    if not colon or "/" in name or Path(text).exists():
        return Place(text)
    sandbox = read_sandbox_id(name)
    if not path:
        raise InputError(f"{shown(text)} names no path: {name}:/path, or {name}:~ for its home")
    return Place(path, sandbox)


def run_cp(server: Client, source: str, target: str, user: str | None) -> None:
    """
    Raises:
        InputError: not one here and one in a sandbox.
        NotFound: nothing is there.
        LocalStateError: something here cannot be read or written.
    """
    one, other = place(source), place(target)
    if (one.sandbox is None) == (other.sandbox is None):
        raise InputError("one of both is in a sandbox, as ID:/path, and the other is here")
    if other.sandbox is not None:
        _into(sandbox_of(server, other.sandbox), one.path, other.path, user)
    elif one.sandbox is not None:
        _out_of(sandbox_of(server, one.sandbox), one.path, other.path, user)


def _into(sandbox: Sandbox, source: str, target: str, user: str | None) -> None:
    if source == "-":
        sandbox.files.write(target, _stdin(), user=user)
        return
    if target.endswith("/") or _is_directory(sandbox, target, user):
        target = f"{target.rstrip('/')}/{Path(source).resolve().name}"
    sandbox.files.upload(source, target, user=user)


def _out_of(sandbox: Sandbox, source: str, target: str, user: str | None) -> None:
    if target == "-":
        with contextlib.closing(sandbox.files.stream(source, user=user)) as pieces:
            all(put(piece) for piece in pieces)
        return
    here = Path(target)
    if target.endswith("/") or here.is_dir():
        here = here / posixpath.basename(sandbox.files.stat(source.rstrip("/") or "/", user=user).path)
    sandbox.files.download(source, here, user=user)


def _is_directory(sandbox: Sandbox, path: str, user: str | None) -> bool:
    try:
        entry = sandbox.files.stat(path, user=user)
        if entry.type is FileType.SYMLINK:
            sandbox.files.list(path, user=user)  # as far as it leads to a directory
            return True
    except NotFound:
        return False
    return entry.type is FileType.DIRECTORY


def _stdin() -> Iterator[bytes]:
    while piece := os.read(0, PIECE):
        yield piece
