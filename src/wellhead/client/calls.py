"""The REST API as data: each function describes one call and how its answer is read. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from wellhead.model.access import Secret
from wellhead.model.records import TlsMode, Tunnel

T = TypeVar("T")
UNCHANGED: Any = type("Unchanged", (), {"__repr__": lambda self: "UNCHANGED"})()
"""Of an update: this field stays as it is (None clears it)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its JSON answer becomes a record."""

    method: str
    path: str  # under /api/v1
    read: Callable[[object], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False  # carried out twice it does no more than carried out once


@dataclass(frozen=True, slots=True)
class CreatedTunnel:
    """A new tunnel and its connect secret, which the server shows this once."""

    tunnel: Tunnel
    connect_secret: Secret


@dataclass(frozen=True, slots=True)
class _Created:
    tunnel: Tunnel
    connect_secret: str


@dataclass(frozen=True, slots=True)
class _Listed:
    tunnels: list[Tunnel]


_tunnel = TypeAdapter(Tunnel)
_created = TypeAdapter(_Created)
_listed = TypeAdapter(_Listed)


def list_tunnels() -> Call[list[Tunnel]]:
    """Every tunnel that the key may see, oldest first."""
    return Call("GET", "/tunnels/", _read_list, repeatable=True)


def find_tunnel(name: str) -> Call[Tunnel | None]:
    """The tunnel of this name, or None where the key sees none."""
    return Call("GET", "/tunnels/", _read_first, query={"name": name}, repeatable=True)


def get_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """
    Raises:
        NotFound: no tunnel of this id that the key may see.
    """
    return Call("GET", _item(tunnel_id), _tunnel.validate_python, repeatable=True)


def create_tunnel(
    name: str,
    *,
    tls_mode: TlsMode = TlsMode.EDGE,
    description: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Call[CreatedTunnel]:
    """Make a tunnel.

    Raises:
        Conflict: the name is taken or reserved.
        Invalid: the name breaks a rule, or another field does.
    """
    body: dict[str, object] = {"tunnel_name": name, "tls_mode": tls_mode.value}
    if description is not None:
        body["description"] = description
    if metadata is not None:
        body["metadata"] = dict(metadata)
    return Call("POST", "/tunnels/", _read_created, body=body)


def update_tunnel(
    tunnel_id: str,
    *,
    description: str | None = UNCHANGED,
    metadata: Mapping[str, object] | None = UNCHANGED,
) -> Call[Tunnel]:
    """Change what is given; None clears.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        Invalid: a value breaks a rule.
    """
    given = {"description": description, "metadata": metadata}
    body: dict[str, object] = {key: item for key, item in given.items() if item is not UNCHANGED}
    return Call("PATCH", _item(tunnel_id), _tunnel.validate_python, body=body, repeatable=True)


def delete_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """Stop a tunnel's traffic; until ``restore_deadline_at`` of the answer it may be restored.

    Raises:
        NotFound: no tunnel of this id that the key may see.
    """
    return Call("DELETE", _item(tunnel_id), _tunnel.validate_python, repeatable=True)


def restore_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """Take a delete back.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        Conflict: it is not pending removal, or the time for it is over.
    """
    return Call("POST", f"{_item(tunnel_id)}/restore", _tunnel.validate_python)


def _item(tunnel_id: str) -> str:
    return f"/tunnels/{quote(tunnel_id, safe='')}"


def _read_list(answer: object) -> list[Tunnel]:
    return _listed.validate_python(answer).tunnels


def _read_first(answer: object) -> Tunnel | None:
    return next(iter(_read_list(answer)), None)


def _read_created(answer: object) -> CreatedTunnel:
    created = _created.validate_python(answer)
    return CreatedTunnel(created.tunnel, Secret(created.connect_secret))
