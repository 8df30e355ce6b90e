"""Sandboxes and the hosts that run them: their ids, statuses and lawful changes.

Source: wrenn-sandboxes, "Identifiers" and "Lifecycle and files API".
"""

from __future__ import annotations

import enum
import re
import secrets
from dataclasses import dataclass
from typing import NewType

from wellhead.errors import InputError
from wellhead.model.records import OrganizationId
from wellhead.model.text import shown
from wellhead.model.visibility import PortAccess

SandboxId = NewType("SandboxId", str)
HostId = NewType("HostId", str)

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_WIDTH = 25  # base-36 digits that hold 128 bits
_id = re.compile(rf"(cl|host)-([{_DIGITS}]{{{_WIDTH}}})").fullmatch
_template = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}").fullmatch


class SandboxStatus(enum.Enum):
    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    SNAPSHOTTING = "snapshotting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    MISSING = "missing"  # its host is not heard of
    ERROR = "error"


_S = SandboxStatus
_OVER = {_S.STOPPING, _S.STOPPED, _S.ERROR}
TRANSITIONS: dict[SandboxStatus, frozenset[SandboxStatus]] = {
    _S.PENDING: frozenset({_S.STARTING, _S.RUNNING, *_OVER}),
    _S.STARTING: frozenset({_S.RUNNING, _S.MISSING, *_OVER}),
    _S.RUNNING: frozenset({_S.PAUSING, _S.PAUSED, _S.SNAPSHOTTING, _S.MISSING, *_OVER}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.RUNNING, _S.MISSING, *_OVER}),
    _S.PAUSED: frozenset({_S.RESUMING, _S.RUNNING, _S.SNAPSHOTTING, _S.MISSING, *_OVER}),
    _S.RESUMING: frozenset({_S.RUNNING, _S.PAUSED, _S.MISSING, *_OVER}),
    _S.SNAPSHOTTING: frozenset({_S.RUNNING, _S.PAUSED, _S.MISSING, *_OVER}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.ERROR}),
    _S.MISSING: frozenset({_S.RUNNING, _S.PAUSED, *_OVER}),
    _S.STOPPED: frozenset(),
    _S.ERROR: frozenset({_S.STOPPING, _S.STOPPED}),
}


LIVE = frozenset(_S) - {_S.STOPPED, _S.ERROR}  # those that take something of a host


def may_become(old: SandboxStatus, new: SandboxStatus) -> bool:
    """Whether a sandbox may go from one status to another; staying is no transition."""
    return new in TRANSITIONS[old]


class HostStatus(enum.Enum):
    PENDING = "pending"  # has a token and never came
    ONLINE = "online"
    UNREACHABLE = "unreachable"  # not heard of for a while
    DRAINING = "draining"  # runs what it has, takes nothing new
    OFFLINE = "offline"  # left by itself, or given up


class Lane(enum.Enum):
    """A host's sessions, by class of traffic."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class SandboxView:
    """What the edge knows of a sandbox."""

    id: SandboxId
    organization_id: OrganizationId
    host_id: HostId
    status: SandboxStatus
    access: PortAccess = PortAccess()


@dataclass(frozen=True, slots=True)
class HostView:
    """What the edge knows of a host."""

    id: HostId
    organization_id: OrganizationId
    status: HostStatus


def new_sandbox_id() -> SandboxId:
    """``cl-`` and 128 random bits in base 36: whoever knows it can ask for its public ports."""
    return SandboxId("cl-" + _base36(secrets.randbits(128)))


def new_host_id() -> HostId:
    return HostId("host-" + _base36(secrets.randbits(128)))


def read_sandbox_id(text: str) -> SandboxId:
    """
    Raises:
        InputError: not ``cl-`` and 25 digits of base 36 below 2^128.
    """
    return SandboxId(_read(text, "cl"))


def read_host_id(text: str) -> HostId:
    """
    Raises:
        InputError: not ``host-`` and 25 digits of base 36 below 2^128.
    """
    return HostId(_read(text, "host"))


def check_template_name(name: str) -> str:
    """
    Raises:
        InputError: not 1 to 64 of ``A-Z a-z 0-9 . _ -``, or with a dot in front.
    """
    if _template(name) is None:
        raise InputError(
            f"template name {shown(name)} is not 1 to 64 of A-Z a-z 0-9 . _ - without a dot in front"
        )
    return name


def _read(text: str, kind: str) -> str:
    found = _id(text)
    if found is None or found[1] != kind or int(found[2], 36) >= 2**128:
        raise InputError(f"{shown(text)} is not the id of a {'sandbox' if kind == 'cl' else 'host'}")
    return text


def _base36(number: int) -> str:
    digits = []
    for _ in range(_WIDTH):
        number, rest = divmod(number, 36)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))
