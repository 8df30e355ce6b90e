"""What its owner may change of a sandbox's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from wellhead.control.store.sandbox_tables import SandboxRow
from wellhead.errors import Invalid
from wellhead.model.visibility import PORTS_MAX, PortAccess, Visibility


@dataclass(frozen=True, slots=True)
class Edit:
    """What its owner changes of a sandbox; None stays. A port of None has the sandbox's visibility again."""

    timeout_sec: int | None = None
    metadata: Mapping[str, str] | None = None
    visibility: Visibility | None = None
    ports: Mapping[int, Visibility | None] = field(default_factory=dict)
    auto_resume: bool | None = None


def apply(row: SandboxRow, edit: Edit) -> None:
    """
    Raises:
        Invalid: as ``ports_after``.
    """
    if edit.timeout_sec is not None:
        row.timeout_sec = edit.timeout_sec
    if edit.metadata is not None:
        row.metadata_ = dict(edit.metadata)
    if edit.visibility is not None:
        row.visibility = edit.visibility
    if edit.auto_resume is not None:
        row.auto_resume = edit.auto_resume
    if edit.ports:
        row.port_visibility = ports_after(row, edit)


def ports_after(row: SandboxRow, edit: Edit) -> dict[str, str]:
    """The ports that have a visibility of their own when it is edited, as they are kept.

    Raises:
        Invalid: they would be more than may be.
    """
    ports = {**_ports(row), **edit.ports}
    kept = {port: visibility for port, visibility in ports.items() if visibility is not None}
    if len(kept) > PORTS_MAX:
        raise Invalid(422, f"{len(kept)} ports with a visibility of their own, at most {PORTS_MAX} allowed")
    return kept_ports(kept.items())


def _ports(row: SandboxRow) -> dict[int, Visibility]:
    return {int(port): Visibility(word) for port, word in row.port_visibility.items()}


def kept_ports(ports: Iterable[tuple[int, Visibility]]) -> dict[str, str]:
    """As they are in the row."""
    return {str(port): visibility.value for port, visibility in sorted(ports, key=itemgetter(0))}


def port_access(row: SandboxRow) -> PortAccess:
    """Who may see its ports."""
    return PortAccess(row.visibility, tuple(_ports(row).items()), row.links_epoch, row.auto_resume)


def changeable(row: SandboxRow) -> dict[str, object]:
    """What an ``Edit`` may change, for the audit."""
    return {
        "timeout_sec": row.timeout_sec,
        "metadata": dict(row.metadata_),
        "visibility": row.visibility.value,
        "port_visibility": dict(row.port_visibility),
        "auto_resume": row.auto_resume,
    }
