"""Calls about files in a sandbox. Paths are absolute, begin with ``~``, or are relative to the user's home.

``user`` is who does it in the sandbox; the template's own where none is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from wellhead.client.calls import Call, given, no_answer
from wellhead.client.sandbox_calls import item
from wellhead.client.sandbox_records import FileEntry
from wellhead.errors import CommandFailed


def stat_file(sandbox_id: str, path: str, *, user: str | None = None) -> Call[FileEntry]:
    """What is there, itself: a symbolic link is not followed.

    Raises:
        NotFound: nothing.
    """
    return _call(sandbox_id, "stat", path=path, user=user)


def list_files(
    sandbox_id: str, path: str = "~", *, depth: int = 1, user: str | None = None
) -> Call[list[FileEntry]]:
    """What is in a directory, and in those within it, ``depth`` of them deep.

    Raises:
        NotFound: no such directory.
    """
    body = given(path=path, depth=depth, user=user)
    return Call("POST", _path(sandbox_id, "list"), _read_entries, body=body, repeatable=True)


def make_directory(
    sandbox_id: str, path: str, *, parents: bool = True, exist_ok: bool = True, user: str | None = None
) -> Call[FileEntry]:
    """Make a directory, with its ``parents``.

    Raises:
        Conflict: it exists, and may not; or something else is there.
    """
    return _call(sandbox_id, "mkdir", path=path, parents=parents, exist_ok=exist_ok, user=user)


def remove_file(
    sandbox_id: str, path: str, *, recursive: bool = False, user: str | None = None
) -> Call[None]:
    """Remove a file, or a directory: ``recursive`` with all that is in it.

    Raises:
        NotFound: nothing is there.
        Conflict: a directory that is not empty.
    """
    body = given(path=path, recursive=recursive, user=user)
    return Call("POST", _path(sandbox_id, "remove"), no_answer, body=body)


def move_file(
    sandbox_id: str, source: str, target: str, *, overwrite: bool = False, user: str | None = None
) -> Call[FileEntry]:
    """Give a file or a directory another path.

    Raises:
        NotFound: nothing is at ``source``.
        Conflict: something is at ``target``, and may not be replaced.
    """
    return _call(sandbox_id, "move", source=source, target=target, overwrite=overwrite, user=user)


def read_bytes(
    sandbox_id: str, path: str, *, offset: int = 0, length: int | None = None, user: str | None = None
) -> Call[None]:
    """A file's bytes, from ``offset``, at most ``length``: what is read of it is the answer's body.

    Raises:
        NotFound: no such file.
        BadRequest: a directory.
    """
    body = given(path=path, offset=offset or None, length=length, user=user)
    return Call("POST", _path(sandbox_id, "stream/read"), no_answer, body=body, repeatable=True)


def write_file(
    sandbox_id: str,
    path: str,
    content: bytes | str | Iterable[bytes] | AsyncIterable[bytes],
    *,
    mode: int | None = None,
    user: str | None = None,
) -> Call[FileEntry]:
    """Put a file there, whole or not at all; directories that it needs are made, an old one is replaced.

    A text becomes UTF-8. ``mode`` is its permission bits, as ``0o644``.
    """
    whole = content.encode() if isinstance(content, str) else content
    query = {name: str(value) for name, value in given(path=path, mode=mode, user=user).items()}
    return Call(
        "PUT",
        _path(sandbox_id, "stream/write"),
        _read_entry,
        query=query,
        content=whole,
        headers={"Content-Type": "application/octet-stream"},
        repeatable=isinstance(whole, bytes),  # what is read along the way cannot be sent twice
    )


def of_size(call: Call[FileEntry], size: int) -> Call[FileEntry]:
    """The write of a content that is known to have so many bytes."""
    return replace(call, headers={**call.headers, "Content-Length": str(size)})


def make_link(sandbox_id: str, leads_to: str, path: str, *, user: str | None = None) -> Call[None]:
    """Put a symbolic link there; an old one, or a file, is replaced."""
    body = given(argv=["ln", "-sfn", "--", leads_to, path], user=user)
    return Call("POST", f"{item(sandbox_id)}/exec", _read_linked, body=body)


@dataclass(frozen=True, slots=True)
class _Linked:
    exit_code: int
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class _Entries:
    entries: list[FileEntry]


_entry = TypeAdapter(_Entry)
_entries = TypeAdapter(_Entries)
_linked = TypeAdapter(_Linked)


def _path(sandbox_id: str, verb: str) -> str:
    return f"{item(sandbox_id)}/files/{verb}"


def _call(sandbox_id: str, verb: str, **members: object) -> Call[FileEntry]:
    return Call(
        "POST", _path(sandbox_id, verb), _read_entry, body=given(**members), repeatable=verb == "stat"
    )


def _read_entry(answer: object) -> FileEntry:
    return _entry.validate_python(answer).entry


def _read_entries(answer: object) -> list[FileEntry]:
    return _entries.validate_python(answer).entries


def _read_linked(answer: object) -> None:
    linked = _linked.validate_python(answer)
    if linked.exit_code != 0:
        raise CommandFailed(
            f"cannot make a symbolic link: {linked.stderr.strip()[:200]}", exit_code=linked.exit_code
        )
