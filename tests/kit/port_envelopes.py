"""What the edge tells a host of a request for a port."""

from __future__ import annotations

from typing import NamedTuple

from wellhead.model.sandboxes import SandboxId
from wellhead.wire.ports import read_port_value, take_port


class PortEnvelope(NamedTuple):
    """``envelope`` is without the field that said so."""

    sandbox: SandboxId
    port: int
    envelope: bytes


def read_port_envelope(envelope: bytes) -> PortEnvelope | None:
    """None: the request is for no port.

    Raises:
        InputError: not ``{sandbox}/{port}``.
    """
    if (taken := take_port(envelope)) is None:
        return None
    value, rest = taken
    return PortEnvelope(*read_port_value(value), rest)
