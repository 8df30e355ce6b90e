"""A guest's answers: what was due, or the error that came in its place."""

from __future__ import annotations

from collections.abc import Mapping

from wellhead.errors import (
    HostBusy,
    HostConflict,
    HostError,
    HostForbidden,
    HostFull,
    HostInvalid,
    HostNotFound,
    HostTooLarge,
    ProtocolError,
)
from wellhead.wire.guest import GuestFrame, read_message

_REFUSALS: dict[object, type[HostError]] = {
    "not_found": HostNotFound,
    "exists": HostConflict,
    "invalid": HostInvalid,
    "forbidden": HostForbidden,
    "too_large": HostTooLarge,
    "busy": HostBusy,
    "no_space": HostFull,
}


def refusal(kind: GuestFrame, payload: bytes) -> HostError:
    """The error that a frame stands for, which is not the one that was due."""
    if kind is not GuestFrame.MESSAGE:
        return HostError(f"the sandbox broke the protocol: {kind.name} out of turn")
    try:
        told = read_message(payload).get("error")
    except ProtocolError as error:
        return HostError(f"the sandbox broke the protocol: {error}")
    if not isinstance(told, dict):
        return HostError("the sandbox broke the protocol: a message out of turn")
    return _REFUSALS.get(told.get("code"), HostError)(str(told.get("message", "it failed")))


def expected(kind: GuestFrame, payload: bytes, word: str) -> dict[str, object]:
    """What a message says of ``word``.

    Raises:
        HostError: it says something else.
    """
    if kind is GuestFrame.MESSAGE:
        try:
            found = read_message(payload).get(word)
        except ProtocolError as error:
            raise HostError(f"the sandbox broke the protocol: {error}") from None
        if isinstance(found, dict):
            return found
    raise refusal(kind, payload)


def part(kind: GuestFrame, payload: bytes) -> dict[str, object] | None:
    """What a message tells of an answer whose end follows; None: it is no such message."""
    if kind is not GuestFrame.MESSAGE:
        return None
    try:
        found = read_message(payload).get("more")
    except ProtocolError:
        return None
    return found if isinstance(found, dict) else None


def member(answer: Mapping[str, object], name: str) -> dict[str, object]:
    """An object that an answer has to have."""
    found = answer.get(name)
    if not isinstance(found, dict):
        raise HostError(f"the sandbox broke the protocol: an answer without {name}")
    return found


def members(answer: Mapping[str, object], name: str) -> list[dict[str, object]]:
    """A list of objects that an answer has to have."""
    found = answer.get(name)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise HostError(f"the sandbox broke the protocol: an answer without {name}")
    return found
