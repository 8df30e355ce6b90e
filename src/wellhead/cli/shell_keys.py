"""The keys that leave a terminal, found among all that are typed."""

from __future__ import annotations

from wellhead.errors import InputError
from wellhead.model.text import shown

HELD_SECONDS = 0.5  # that a first key waits for the second; then it was meant for the program


class Leaving:
    """Finds a sequence of keys. What might be its beginning is held back until that is known."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    @classmethod
    def of(cls, text: str) -> Leaving:
        """
        Raises:
            InputError: not ``none``, and no keys with commas between them, as ``ctrl-p,ctrl-q``.
        """
        if text == "none":
            return cls(b"")
        return cls(bytes(_key(word, text) for word in text.split(",")))

    @property
    def holds(self) -> bool:
        """Whether a key waits for the next one."""
        return bool(self._held)

    def take(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be sent, and whether the keys were there: what follows them is nobody's."""
        if not self._keys:
            return typed, False
        data = self._held + typed
        place = data.find(self._keys)
        if place >= 0:
            self._held = b""
            return data[:place], True
        keep = next(
            (n for n in range(min(len(self._keys) - 1, len(data)), 0, -1) if data.endswith(self._keys[:n])), 0
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], False

    def give_up(self) -> bytes:
        """What was held: the next key did not come."""
        held, self._held = self._held, b""
        return held

    def __str__(self) -> str:
        return " ".join(f"Ctrl-{chr(key + 64)}" if key < 32 else chr(key) for key in self._keys)


def _key(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii() and word.isprintable():
        return ord(word)
    name, dash, key = word.lower().partition("-")
    if name == "ctrl" and dash and len(key) == 1 and "@" <= key.upper() <= "_":
        return ord(key.upper()) - 64
    raise InputError(f"--escape {shown(text)} is not keys such as ctrl-p,ctrl-q, and not none")
