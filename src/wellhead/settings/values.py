"""Kinds of values: how each is read from a text, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from wellhead.errors import InputError
from wellhead.model.names import join_authority, split_authority
from wellhead.model.ports import PORT_MAX
from wellhead.model.text import shown


def home() -> Path:
    """The user's directory: ``$WELLHEAD_HOME``, or ``~/.wellhead``. It need not exist."""
    return Path(os.environ.get("WELLHEAD_HOME") or "~/.wellhead").expanduser().absolute()


def _address(text: str) -> str:
    if text.isascii() and text.isdigit():
        raise InputError(f"{shown(text)} has no host, expected HOST:PORT, as in 127.0.0.1:8443")
    hostname, port = split_authority(text)
    if port is None:
        raise InputError(f"{shown(text)} has no port, expected HOST:PORT (port 0: any free one)")
    return join_authority(hostname, port)


def _hostname(text: str) -> str:
    hostname, port = split_authority(text)
    if port is not None:
        raise InputError(f"{shown(text)} has a port, expected a hostname alone")
    return hostname


def _bracketed(text: str) -> str:
    """An IPv6 address stands for itself where no port can follow."""
    return f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text


def _domain(text: str) -> str:
    hostname = _hostname(text)
    if hostname[-1].isdigit() and not hostname.rpartition(".")[2].strip("0123456789"):
        raise InputError(f"{shown(text)} is an IP address, names cannot stand under it")
    if ":" in hostname:
        raise InputError(f"{shown(text)} is an IP address, names cannot stand under it")
    if len(hostname) > 253 - 64:
        raise InputError(f"{shown(text)} has {len(hostname)} characters, at most 189 leave room for a name")
    return hostname


def _off(given: object) -> object:
    """``off`` and TOML's ``false`` say that there is none."""
    return None if given is False or (isinstance(given, str) and given.lower() == "off") else given


def listed(given: object) -> object:
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _port_list(given: object) -> object:
    return [given] if isinstance(given, int) else listed(given)


def _dns_server(text: str) -> str:
    hostname, port = split_authority(_bracketed(text))
    return join_authority(hostname, port or 53)


_STREAMS = ("stderr", "off")

Address = Annotated[str, AfterValidator(_address)]
Hostname = Annotated[str, AfterValidator(lambda text: _hostname(_bracketed(text)))]
Domain = Annotated[str, AfterValidator(_domain)]
Directory = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
AccessLog = Annotated[str, AfterValidator(lambda text: text.lower() if text.lower() in _STREAMS else text)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=PORT_MAX)], ...], NoDecode, BeforeValidator(_port_list)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)]
DnsServer = Annotated[str, AfterValidator(_dns_server)]
AddressOrOff = Annotated[Address | None, BeforeValidator(_off)]
