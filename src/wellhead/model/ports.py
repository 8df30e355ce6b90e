"""Ports of sandboxes as visitors know them, by their names. Pure.

``{port}-{sandbox}.{domain}`` is a port's hostname; its first label has one spelling only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wellhead.errors import InputError
from wellhead.model.sandboxes import SandboxId, read_sandbox_id
from wellhead.model.text import shown

PORT_MAX = 65535

_label = re.compile(r"([0-9]+)-(cl-.*)").fullmatch


class PortName(NamedTuple):
    """A port of a sandbox."""

    port: int
    sandbox: SandboxId

    @property
    def label(self) -> str:
        """The first label of its hostname."""
        return f"{self.port}-{self.sandbox}"


def is_port_label(label: str) -> bool:
    """Whether a label is meant for a port of a sandbox, well formed or not; no tunnel has such a name."""
    return _label(label) is not None


def read_port_label(label: str) -> PortName:
    """
    Raises:
        InputError: not ``{port}-{sandbox id}``, lower case, or a port that ``read_port`` refuses.
    """
    found = _label(label)
    if found is None:
        raise InputError(f"{shown(label)} is not {{port}}-{{sandbox}}")
    return PortName(read_port(found[1]), read_sandbox_id(found[2]))


def read_port(text: str) -> int:
    """
    Raises:
        InputError: not 1 to 65535 in decimal digits, or with a zero in front.
    """
    if not (
        text.isascii() and text.isdigit() and len(text) <= 5 and text[0] != "0" and int(text) <= PORT_MAX
    ):
        raise InputError(f"port {shown(text)} is not a number from 1 to {PORT_MAX}")
    return int(text)


def check_port(number: int) -> int:
    """
    Raises:
        InputError: not a whole number, or not 1 to 65535.
    """
    if type(number) is not int or not 0 < number <= PORT_MAX:  # programs are not all checked for types
        raise InputError(f"port {number!r} is not a number from 1 to {PORT_MAX}")
    return number
