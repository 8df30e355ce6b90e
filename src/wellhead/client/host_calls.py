"""Calls about the hosts that run an organization's sandboxes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from wellhead.client.calls import Call, given, no_answer
from wellhead.model.access import Secret
from wellhead.model.sandbox_records import Host
from wellhead.model.sandboxes import read_host_id


@dataclass(frozen=True, slots=True)
class CreatedHost:
    """A host that may join, and the token for that, which the server shows this once."""

    host: Host
    token: Secret
    expires_at: datetime


def create_host(name: str | None = None) -> Call[CreatedHost]:
    """Let a machine join as a host: with the token, once, within an hour.

    Raises:
        Conflict: the name is another host's.
    """
    return Call("POST", "/hosts", _read_created, body=given(name=name))


def list_hosts() -> Call[list[Host]]:
    """Every host of the organization."""
    return Call("GET", "/hosts", _hosts.validate_python, repeatable=True)


def get_host(host_id: str) -> Call[Host]:
    """
    Raises:
        InputError: not the id of a host.
        NotFound: the organization has none of this id.
    """
    return Call("GET", _item(host_id), _host.validate_python, repeatable=True)


def update_host(host_id: str, *, name: str | None = None, draining: bool | None = None) -> Call[Host]:
    """Change what is given; one that is ``draining`` keeps what it has and takes nothing new."""
    body = given(name=name, draining=draining)
    return Call("PATCH", _item(host_id), _host.validate_python, body=body, repeatable=True)


def drain_host(host_id: str) -> Call[Host]:
    """Have it take no new sandboxes; those that it has go on."""
    return update_host(host_id, draining=True)


def delete_host(host_id: str, *, force: bool = False) -> Call[None]:
    """Forget a host: its key and its sessions end. With ``force`` its sandboxes and snapshots, too.

    Raises:
        Conflict: it has sandboxes.
    """
    query = {"force": "true"} if force else {}
    return Call("DELETE", _item(host_id), no_answer, query=query, repeatable=True)


@dataclass(frozen=True, slots=True)
class _Created:
    host: Host
    token: str
    expires_at: datetime


_host = TypeAdapter(Host)
_hosts = TypeAdapter(list[Host])
_created = TypeAdapter(_Created)


def _item(host_id: str) -> str:
    return f"/hosts/{read_host_id(host_id)}"


def _read_created(answer: object) -> CreatedHost:
    created = _created.validate_python(answer)
    return CreatedHost(created.host, Secret(created.token), created.expires_at)
