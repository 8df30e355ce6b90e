"""Calls about the ports of sandboxes: what listens, who may see it, and links for those who else may not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pydantic import TypeAdapter

from wellhead.client.calls import Call, given, no_answer
from wellhead.client.sandbox_calls import item, update_sandbox
from wellhead.client.sandbox_records import PortInfo, PortLink, SandboxInfo
from wellhead.errors import InputError, ProtocolError
from wellhead.model.ports import check_port
from wellhead.model.visibility import Visibility


def list_ports(sandbox_id: str) -> Call[list[PortInfo]]:
    """The TCP ports that are listened on, by number and address.

    Raises:
        SandboxState: the sandbox does not run.
    """
    return Call("GET", f"{item(sandbox_id)}/ports", _read_ports, repeatable=True)


def share_port(sandbox_id: str, port: int | None = None, *, expires_in: int | None = None) -> Call[PortLink]:
    """A link for whoever it is given to, through which a port may be seen whatever its visibility is.

    Without a ``port`` it is good for every one, and its URL has ``{port}`` in place of the number. It ends
    after ``expires_in`` seconds; None: after as long as the server chooses. The server keeps nothing of it.

    Raises:
        InputError: no such port.
        Invalid: an ``expires_in`` that is too long.
        SandboxState: the sandbox is over.
    """
    body = given(port=None if port is None else check_port(port), expires_in=expires_in)
    return Call("POST", f"{item(sandbox_id)}/links", _link.validate_python, body=body, repeatable=True)


def revoke_links(sandbox_id: str) -> Call[None]:
    """Void every link of a sandbox, with the cookies that they were exchanged for."""
    return Call("DELETE", f"{item(sandbox_id)}/links", no_answer, repeatable=True)


def change_visibility(
    info: SandboxInfo, visibility: Visibility | str, port: int | None = None
) -> Call[SandboxInfo]:
    """Say who may see one port, or all of them: no port keeps one of its own then.

    ``info`` tells which have.

    Raises:
        InputError: no such visibility, or no such port.
        SandboxState: the sandbox is over.
    """
    if port is not None:
        return update_sandbox(info.id, port_visibility={port: visibility})
    return update_sandbox(info.id, visibility=visibility, port_visibility=dict.fromkeys(info.port_visibility))


def url_of(info: SandboxInfo, port: int, *, plain: bool = False) -> str:
    """Where visitors find a port of a sandbox; whether they may, and whether it answers, is another matter.

    ``plain``: without TLS.

    Raises:
        InputError: no such port, or the server has no plain one.
        ProtocolError: the server did not say: its sandboxes' ports have no names.
    """
    check_port(port)
    if info.url is None:
        raise ProtocolError("the server does not say where ports of its sandboxes are found")
    template = info.plain_url if plain else info.url
    if template is None:
        raise InputError("the server has no plain port: visitors come to it by TLS alone")
    return template.replace("{port}", str(port))


def placed(ports: list[PortInfo], info: SandboxInfo) -> list[PortInfo]:
    """The same, each with who may see it and where, as far as ``info`` tells."""
    return [
        dataclasses.replace(
            each,
            visibility=info.visibility_of(each.port),
            url=None if info.url is None else url_of(info, each.port),
        )
        for each in ports
    ]


@dataclass(frozen=True, slots=True)
class _Ports:
    ports: list[PortInfo]


_ports = TypeAdapter(_Ports)
_link = TypeAdapter(PortLink)


def _read_ports(answer: object) -> list[PortInfo]:
    return _ports.validate_python(answer).ports
