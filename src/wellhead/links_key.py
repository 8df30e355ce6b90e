"""The key that signs links to sandboxes' ports: ``links-key`` in the server's data directory, 0600, in hex.

It is made once. Without it, or with another, every link and every cookie of a link is void.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Final

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.model.links import KEY_BYTES

FILE: Final = "links-key"

_hex = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}\n?").fullmatch


def load_or_make(directory: Path) -> bytes:
    """The key, KEY_BYTES long; the same for all who ask, also at once.

    Raises:
        LocalStateError: the directory or the file is refused (``wellhead.private``), or it holds no such key.
    """
    path = directory / FILE
    if (text := private.read(path)) is None:
        private.write_once(path, secrets.token_hex(KEY_BYTES) + "\n")
        text = private.read(path) or ""
    if _hex(text) is None:
        raise LocalStateError(
            f"{path} is damaged: it does not hold {2 * KEY_BYTES} hex digits; delete it to have a new one,"
            " which voids the links that there are"
        )
    return bytes.fromhex(text)
