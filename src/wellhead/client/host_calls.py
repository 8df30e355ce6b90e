"""Calls about the hosts that run an organization's sandboxes."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from wellhead.client.calls import Call, given, no_answer
from wellhead.client.sandbox_records import HostInfo
from wellhead.model.access import Secret
from wellhead.model.sandboxes import read_host_id


@dataclass(frozen=True, slots=True)
class CreatedHost:
    """A host that may join, and the token for that, which the server shows this once."""

    host: HostInfo
    token: Secret


def create_host(name: str | None = None) -> Call[CreatedHost]:
    """Let a machine join as a host: with the token, once, within an hour.

    Raises:
        Conflict: the name is another host's.
    """
    return Call("POST", "/hosts", _read_created, body=given(name=name))


def list_hosts() -> Call[list[HostInfo]]:
    """Every host of the organization."""
    return Call("GET", "/hosts", _read_hosts, repeatable=True)


def get_host(host_id: str) -> Call[HostInfo]:
    """
    Raises:
        InputError: not the id of a host.
        NotFound: the organization has none of this id.
    """
    return Call("GET", _item(host_id), _host.validate_python, repeatable=True)


def drain_host(host_id: str, *, drain: bool = True) -> Call[HostInfo]:
    """Have it take no new sandboxes, or take some again; those that it has go on."""
    return Call("PATCH", _item(host_id), _host.validate_python, body={"drain": drain}, repeatable=True)


def delete_host(host_id: str) -> Call[None]:
    """End a host's key: it cannot come back.

    Raises:
        Conflict: it has sandboxes.
    """
    return Call("DELETE", _item(host_id), no_answer, repeatable=True)


@dataclass(frozen=True, slots=True)
class _Created:
    host: HostInfo
    token: str


@dataclass(frozen=True, slots=True)
class _Hosts:
    hosts: list[HostInfo]


_host = TypeAdapter(HostInfo)
_hosts: TypeAdapter[list[HostInfo] | _Hosts] = TypeAdapter(list[HostInfo] | _Hosts)
_created = TypeAdapter(_Created)


def _item(host_id: str) -> str:
    return f"/hosts/{read_host_id(host_id)}"


def _read_created(answer: object) -> CreatedHost:
    created = _created.validate_python(answer)
    return CreatedHost(created.host, Secret(created.token))


def _read_hosts(answer: object) -> list[HostInfo]:
    hosts = _hosts.validate_python(answer)
    return hosts.hosts if isinstance(hosts, _Hosts) else hosts
