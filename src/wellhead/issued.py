"""Certificates of the server's own names, as files: written by whoever has them issued, read by the edge.

::

    {data_dir}/certificates/             0700
      {name}/                            0700; of a wildcard ``_wildcard.{rest}``
        fullchain.pem                    the certificate and its issuers: what is in it counts
        key.pem                          0600
        next-key.pem                     0600; there while a new pair is being put in place
        meta.json                        facts for people and for renewal; the edge does not read them

A new key is laid beside the old one before ``fullchain.pem`` is replaced, so that at every moment, a crash's
too, one of the two keys belongs to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wellhead import private
from wellhead.errors import LocalStateError

DIRECTORY: Final = "certificates"  # in the server's data directory
CHAIN: Final = "fullchain.pem"
KEY: Final = "key.pem"
NEXT_KEY: Final = "next-key.pem"
META: Final = "meta.json"
_WILDCARD: Final = "_wildcard"  # no tunnel's name begins with an underscore


class Files(NamedTuple):
    """What is in one entry. PEM; ``keys`` are those of which one belongs to the chain."""

    chain_pem: str
    keys: tuple[str, ...]


def put(
    directory: Path, name: str, *, chain_pem: str, key_pem: str, meta: Mapping[str, str | int | float]
) -> Path:
    """Write the entry of a name, ``example.org`` or ``*.example.org``; returns its directory.

    ``chain_pem`` begins with the certificate, which belongs to ``key_pem``.

    Raises:
        LocalStateError: the directory is refused (``private.check_directory``), or cannot be written.
    """
    private.make_directory(directory)
    entry = private.make_directory(entry_of(directory, name))
    private.write(entry / NEXT_KEY, key_pem)
    private.write(entry / CHAIN, chain_pem)
    try:
        (entry / NEXT_KEY).replace(entry / KEY)
    except OSError as error:
        raise LocalStateError(f"cannot write {entry / KEY}: {error.strerror}") from error
    private.write(entry / META, json.dumps({"name": name, **meta}, indent=2) + "\n")
    return entry


def get(entry: Path) -> Files | None:
    """What is in an entry's directory, None where there is no certificate.

    Raises:
        LocalStateError: a file is refused (``private.read``), or there is no key.
    """
    chain = private.read(entry / CHAIN)
    keys = tuple(key for file in (KEY, NEXT_KEY) if (key := private.read(entry / file)) is not None)
    if chain is None:
        return None
    if not keys:
        raise LocalStateError(f"{entry / KEY} is missing beside {CHAIN}")
    return Files(chain, keys)


def meta(entry: Path) -> dict[str, object]:
    """The facts that were written with an entry, empty where there are none that can be read."""
    try:
        facts = json.loads(private.read(entry / META) or "{}")
    except (LocalStateError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def drop(directory: Path, name: str) -> None:
    """Remove the entry of a name, the certificate first. Idempotent.

    Raises:
        LocalStateError: it stays there.
    """
    entry = entry_of(directory, name)
    try:
        (entry / CHAIN).unlink(missing_ok=True)
        if entry.exists():
            shutil.rmtree(entry)
    except OSError as error:
        raise LocalStateError(f"cannot remove {entry}: {error.strerror}") from error


def entry_of(directory: Path, name: str) -> Path:
    """Where the files of a name are. ``name`` is a hostname of ours, or ``*.`` and one.

    Raises:
        LocalStateError: it could lead elsewhere.
    """
    file_name = _WILDCARD + name[1:] if name.startswith("*.") else name
    labels = file_name.split(".")
    if not (
        file_name.isascii() and all(label.replace("-", "").replace("_", "").isalnum() for label in labels)
    ):
        raise LocalStateError(f"{name!r} is no name for a directory")
    return directory / file_name
