"""The file of ``wellhead start``: which tunnels there are to be, and where each one leads.

::

    [tunnels.my-app]
    forward_to = "8000"

    [tunnels.my-api]
    forward_to = "https://10.0.0.7:8443"
    host_header = "preserve"
    upstream_http = "2"
    upstream_ca_file = "internal-ca.pem"

    [tunnels.my-own-tls]
    forward_to = "8000"
    tls_mode = "passthrough"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wellhead.agent.carriers import alpn_of
from wellhead.errors import InputError, SettingsError
from wellhead.model.names import check_name
from wellhead.model.records import TlsMode
from wellhead.model.text import shown
from wellhead.net.upstream_address import UpstreamAddress, parse_upstream
from wellhead.settings import read_toml
from wellhead.wire.headers import HostPolicy

_KEYS: Mapping[str, tuple[type, ...]] = {
    "forward_to": (str, int),
    "tls_mode": (str,),
    "host_header": (str,),
    "upstream_http": (str,),
    "verify_upstream": (bool,),
    "upstream_ca_file": (str,),
    "carrier": (str,),
}
_WORDS = {str: "a string", int: "a port", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One tunnel of the file. Two that are equal need no change."""

    name: str
    forward_to: str
    host_header: str = "rewrite"
    upstream_http: str = "auto"
    verify_upstream: bool = True
    upstream_ca_file: Path | None = None
    carrier: str = "auto"
    tls_mode: str | None = None

    @property
    def upstream(self) -> UpstreamAddress:
        return parse_upstream(self.forward_to, self.upstream_http)


def read_plan(path: Path) -> dict[str, Wanted]:
    """The tunnels by name, in the order of the file.

    Raises:
        SettingsError: unreadable, not TOML, or a line per problem: the tunnel, the key, the bound.
    """
    tables = read_toml(path)
    problems = [f"unknown key {shown(key)} in {path}, expected tunnels" for key in tables if key != "tunnels"]
    given = tables.get("tunnels", {})
    if not isinstance(given, dict):
        raise SettingsError(f"tunnels in {path} must be tables: [tunnels.NAME]")
    if not given and not problems:
        problems.append(f"{path} has no tunnels: a line [tunnels.NAME] begins one")
    plan = {}
    for name, table in given.items():
        found = list(_problems(name, table))
        problems += [f"{path}: tunnel {shown(name)}: {problem}" for problem in found]
        if not found:
            plan[name] = _wanted(name, table, path.absolute().parent)
    if problems:
        raise SettingsError("\n".join(problems))
    return plan


def _wanted(name: str, table: Mapping[str, object], directory: Path) -> Wanted:
    ca_file = table.get("upstream_ca_file")
    return Wanted(
        name=name,
        forward_to=str(table["forward_to"]),
        tls_mode=str(table["tls_mode"]) if "tls_mode" in table else None,
        host_header=str(table.get("host_header", "rewrite")),
        upstream_http=str(table.get("upstream_http", "auto")),
        carrier=str(table.get("carrier", "auto")),
        verify_upstream=bool(table.get("verify_upstream", True)),
        upstream_ca_file=directory / str(ca_file) if ca_file is not None else None,
    )


def _problems(name: str, table: object) -> Iterator[str]:
    try:
        check_name(name)
    except InputError as error:
        yield str(error)
    if not isinstance(table, dict):
        yield f"must be a table, [tunnels.{name}]"
        return
    for key, value in table.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            yield f"unknown key {shown(key)}" + (f", did you mean {near[0]}?" if near else "")
        elif type(value) not in _KEYS[key]:
            yield f"{key} must be {' or '.join(_WORDS[kind] for kind in _KEYS[key])}, not {shown(str(value))}"
    if isinstance(mode := table.get("tls_mode"), str):
        try:
            TlsMode.read(mode)
        except InputError as error:
            yield str(error)
    if isinstance(carrier := table.get("carrier"), str):
        try:
            alpn_of(carrier)
        except InputError as error:
            yield str(error)
    yield from _upstream_problems(table)


def _upstream_problems(table: Mapping[str, object]) -> Iterator[str]:
    forward_to, host_header = table.get("forward_to"), table.get("host_header", "rewrite")
    if forward_to is None:
        yield "forward_to is missing: where requests go, as in forward_to = 8000"
    if type(forward_to) not in (str, int):
        return
    try:
        upstream = parse_upstream(str(forward_to), str(table.get("upstream_http", "auto")))
        if isinstance(host_header, str):
            HostPolicy(host_header, upstream)
    except InputError as error:
        yield str(error)
