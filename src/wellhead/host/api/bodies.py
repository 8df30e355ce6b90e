"""What visitors say in JSON: read within bounds, member by member, and refused with the member's name."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping

from starlette.requests import HTTPConnection, Request

from wellhead.errors import HostInvalid, HostTooLarge
from wellhead.model.text import shown

PATH_BYTES = 4096  # of a path, as Linux bounds it
_tag = re.compile(r"(?![0-9]+$)[!-.0-~]{1,128}").fullmatch

SIGNALS = frozenset(
    "HUP INT QUIT ABRT KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP TSTP TTIN TTOU WINCH".split()
)


class Members:
    """A JSON object. Each reader raises HostInvalid, naming the member, for a value of another kind."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """Text without NUL; absent, null and "" are the default where there is one."""
        found = self._members.get(name)
        if found is None or (found == "" and default is not None):
            if default is None:
                raise HostInvalid(f"{name} is missing")
            return default
        return _text(name, found)

    def optional(self, name: str) -> str | None:
        """Text; absent, null and "" are none."""
        return self.text(name, "") or None

    def path(self, name: str) -> str:
        """A path of at most PATH_BYTES."""
        return check_path(name, self.text(name))

    def words(self, name: str) -> list[str]:
        """A list of text; absent is empty."""
        found = self._members.get(name)
        if found is None:
            return []
        if not isinstance(found, list):
            raise HostInvalid(f"{name} is no list of text")
        return [_text(f"{name}[{at}]", word) for at, word in enumerate(found)]

    def environment(self, name: str) -> dict[str, str]:
        """Names to text; absent is empty."""
        found = self._members.get(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise HostInvalid(f"{name} is no object of text")
        for variable in found:
            if not variable or "=" in variable:
                raise HostInvalid(f"{name} has a variable of the name {shown(variable)}")
            _text(name, variable)
        return {variable: _text(f"{name}.{variable}", value) for variable, value in found.items()}

    def flag(self, name: str, default: bool) -> bool:
        found = self._members.get(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise HostInvalid(f"{name} is neither true nor false")
        return found

    def whole(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        found = self._members.get(name)
        if found is None:
            return default
        if type(found) is not int:
            raise HostInvalid(f"{name} is no whole number")
        if not low <= found <= high:
            raise HostInvalid(f"{name} is {shown(str(found))}, not {low} to {high}")
        return found

    def size(self, name: str) -> int:
        """A whole number, whatever its bounds."""
        found = self._members.get(name)
        if type(found) is not int:
            raise HostInvalid(f"{name} is no whole number")
        return found

    def seconds(self, name: str, default: float | None, high: float) -> float | None:
        """Seconds above 0; absent and 0 are the default, null is none."""
        found = self._members.get(name, default)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            raise HostInvalid(f"{name} is no number of seconds")
        if not 0 <= found <= high:
            raise HostInvalid(f"{name} is {shown(str(found))}, not 0 to {high:g}")
        return float(found) or default

    def encoded(self, name: str) -> bytes | None:
        """Bytes in base64."""
        found = self._members.get(name)
        if found is None:
            return None
        try:
            return base64.b64decode(_text(name, found), validate=True)
        except binascii.Error:
            raise HostInvalid(f"{name} is no base64") from None

    def tag(self, name: str) -> str | None:
        found = self.optional(name)
        return None if found is None else check_tag(found)


def check_path(name: str, path: str) -> str:
    """
    Raises:
        HostInvalid: longer than PATH_BYTES.
    """
    if len(path.encode()) > PATH_BYTES:
        raise HostInvalid(f"{name} has {len(path.encode())} bytes, at most {PATH_BYTES} allowed")
    return path


def check_tag(tag: str) -> str:
    """
    Raises:
        HostInvalid: not 1 to 128 characters of printable ASCII without "/", or all digits.
    """
    if _tag(tag) is None:
        raise HostInvalid(
            f"tag {shown(tag)} is not 1 to 128 characters of ASCII, without spaces and /, not all digits"
        )
    return tag


def check_selector(selector: str) -> str:
    """A process's pid or tag.

    Raises:
        HostInvalid: neither.
    """
    if selector.isascii() and selector.isdigit() and 0 < len(selector) <= 10:
        return selector
    return check_tag(selector)


def check_signal(name: str) -> str:
    """A signal without SIG.

    Raises:
        HostInvalid: an unknown one.
    """
    word = name.upper().removeprefix("SIG")
    if word not in SIGNALS:
        raise HostInvalid(f"unknown signal {shown(name)}")
    return word


def read_members(data: bytes | str) -> Members:
    """
    Raises:
        HostInvalid: no JSON object.
    """
    try:
        members = json.loads(data)
    except (ValueError, RecursionError):
        raise HostInvalid("no JSON") from None
    if not isinstance(members, dict):
        raise HostInvalid("no JSON object")
    return Members(members)


async def read_body(request: Request, max_bytes: int) -> Members:
    """A request's body; an empty one is an empty object.

    Raises:
        HostInvalid: no JSON object.
        HostTooLarge: more than ``max_bytes``.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise HostTooLarge(f"a body of more than {max_bytes} bytes")
    return read_members(bytes(body)) if body else Members({})


def _text(name: str, found: object) -> str:
    if not isinstance(found, str):
        raise HostInvalid(f"{name} is no text")
    if "\0" in found:
        raise HostInvalid(f"{name} has a NUL character")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise HostInvalid(f"{name} has half of a surrogate pair") from None
    return found


def query_number(connection: HTTPConnection, name: str) -> int | None:
    """A whole number, not below 0, in a query.

    Raises:
        HostInvalid: no number.
    """
    found = connection.query_params.get(name)
    if found is None:
        return None
    if not found.isascii() or not found.isdigit() or len(found) > 18:
        raise HostInvalid(f"{name} is {shown(found)}, no whole number")
    return int(found)
