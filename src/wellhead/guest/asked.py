"""The members of a message from the host, each read as what it must be."""

from __future__ import annotations

import math
import re

from wellhead.guest.refusal import Refusal, Word
from wellhead.model.text import shown

_tag = re.compile(r"(?![0-9]+$)[!-~]{1,128}").fullmatch


class Asked:
    """What an operation was asked with. Each getter raises Refusal (invalid) for what is not of its kind.

    Members that nobody reads are let be: the host may be newer than the guest.
    """

    def __init__(self, members: dict[str, object]) -> None:
        self._members = members

    def text(self, name: str) -> str | None:
        """Without NUL, and encodable; None where it is absent or null."""
        value = self._members.get(name)
        return None if value is None else _text(value, name)

    def must(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise Refusal(Word.INVALID, f"{name} is missing or empty")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._members.get(name)
        if not isinstance(value, list):
            raise Refusal(Word.INVALID, f"{name} is not a list of texts")
        return [_text(each, name) for each in value]

    def table(self, name: str) -> dict[str, str]:
        """Names and values of an environment; empty where it is absent or null."""
        value = self._members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Refusal(Word.INVALID, f"{name} is not an object of texts")
        for key in value:
            if not key or "=" in key:
                raise Refusal(
                    Word.INVALID, f"{name} has the name {shown(key)}, which is empty or has a = in it"
                )
        return {_text(key, name): _text(each, f"{name} {shown(key)}") for key, each in value.items()}

    def flag(self, name: str) -> bool:
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            raise Refusal(Word.INVALID, f"{name} is neither true nor false")
        return bool(value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number within the bounds; None where it is absent or null."""
        value = self._members.get(name)
        return None if value is None else whole(value, name, least, most)

    def seconds(self, name: str) -> float | None:
        value = self._members.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise Refusal(Word.INVALID, f"{name} is not a number above 0")
        return float(value)

    def tag(self) -> str | None:
        value = self.text("tag")
        if value is not None and _tag(value) is None:
            raise Refusal(
                Word.INVALID,
                f"tag {shown(value)} is not 1 to 128 printable ASCII characters, not all of them digits",
            )
        return value


def whole(value: object, name: str, least: int, most: int) -> int:
    """
    Raises:
        Refusal: not a whole number from ``least`` to ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(Word.INVALID, f"{name} is not a whole number")
    if not least <= value <= most:
        raise Refusal(Word.INVALID, f"{name} is {value}, not {least} to {most}")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise Refusal(Word.INVALID, f"{name} is not a text")
    if "\0" in value:
        raise Refusal(Word.INVALID, f"{name} has a NUL in it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refusal(Word.INVALID, f"{name} is no Unicode text") from error
    return value
