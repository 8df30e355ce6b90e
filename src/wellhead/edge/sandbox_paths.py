"""Which requests at the control plane's names are for a sandbox itself, and what its host is asked. Pure.

::

    /api/v1/sandboxes/{id}/exec?…     ->  /sandboxes/{id}/exec?…
    /legacy/api/v1/capsules/{id}/pty  ->  /sandboxes/{id}/pty, in the dialect of those who ask so

The rest of a target is carried on byte for byte. Everything else of ``/api/v1`` is the control plane's.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from wellhead.errors import InputError
from wellhead.model.sandboxes import Lane, SandboxId, read_sandbox_id

_path = re.compile(
    rb"(/legacy)?/api/v1/(?:capsules|sandboxes)/([^/?]*+)"
    rb"(/(exec|processes|pty|files|metrics|ports|logs)(?=[/?]|\Z)([^?]*+)(?:\?.*+)?)",
    re.DOTALL,
).fullmatch
_waits = re.compile(
    rb"(?:/legacy)?/api/v1/(?:(?:capsules|sandboxes|snapshots)(?:/.*+)?|.*/sign-csr/*+)", re.DOTALL
).fullmatch
_separator = re.compile(rb"[/\\]")
_LONG = (b"exec", b"logs")  # whose replies may turn out to be long


class SandboxPath(NamedTuple):
    """What a target says. ``written_id`` is not judged yet."""

    written_id: bytes
    dialect: bytes
    rest: bytes  # from the slash behind the id to the end of the query
    what: bytes  # the first word of it
    lane: Lane
    long: bool  # it is on the interactive lane, and its reply may be more than that is for

    @property
    def name(self) -> str:
        """The id for a log line; empty where it is none."""
        try:
            return read_sandbox_id(self.written_id.decode("latin-1"))
        except InputError:
            return ""

    def sandbox(self) -> SandboxId:
        """
        Raises:
            InputError: no id, or a path that climbs.
        """
        # The host's routes would not follow it; whoever stands between might.
        if {b".", b".."}.intersection(_separator.split(unquote_to_bytes(self.rest.partition(b"?")[0]))):
            raise InputError("the path has a dot segment")
        return read_sandbox_id(self.written_id.decode("latin-1"))

    def target(self, sandbox: SandboxId) -> bytes:
        """What the host is asked."""
        return b"/sandboxes/" + sandbox.encode("ascii") + self.rest


def waits(path: bytes) -> bool:
    """Whether the control plane may answer it only when somebody else did: a host, or an issuer."""
    return _waits(path) is not None


def sandbox_path(target: bytes) -> SandboxPath | None:
    """What a request's target says; None where it is not for a sandbox."""
    found = _path(target)
    if found is None:
        return None
    legacy, written_id, rest, what, below = found.groups()
    return SandboxPath(
        written_id,
        b"legacy" if legacy else b"standard",
        rest,
        what,
        Lane.BULK if what == b"files" else Lane.INTERACTIVE,
        what in _LONG or (what == b"processes" and below.endswith(b"/stream")),
    )
