"""How the edge tells a host for which port of which sandbox a request is: one field of the envelope.

``Wellhead-Port: {sandbox}/{port}``. No visitor can write it: fields of that prefix are dropped from requests.
The target stays as the visitor sent it.
"""

from __future__ import annotations

from functools import lru_cache

from wellhead.model.ports import read_port
from wellhead.model.sandboxes import SandboxId, read_sandbox_id
from wellhead.wire.envelope import add_lines

_FIELD = b"\r\nWellhead-Port: "


def for_port(envelope: bytes, sandbox: SandboxId, port: int) -> bytes:
    """A canonical request head that says for which port it is."""
    return add_lines(envelope, _line(sandbox, port))


@lru_cache(maxsize=1024)
def _line(sandbox: SandboxId, port: int) -> bytes:
    return b"%b%b/%d\r\n" % (_FIELD[2:], sandbox.encode("ascii"), port)


def take_port(envelope: bytes) -> tuple[bytes, bytes] | None:
    """The field's value and the envelope without it; None: the request is for no port."""
    before, found, rest = envelope.rpartition(_FIELD)
    if not found:
        return None
    value, _, after = rest.partition(b"\r\n")
    return value, before + b"\r\n" + after


def read_port_value(value: bytes) -> tuple[SandboxId, int]:
    """
    Raises:
        InputError: not ``{sandbox}/{port}``.
    """
    sandbox, _, port = value.decode("latin-1").partition("/")
    return read_sandbox_id(sandbox), read_port(port)
