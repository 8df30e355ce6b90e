"""Checks of this machine: nothing here speaks with another one, or changes anything."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import http.client
import resource
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from wellhead import issued, private
from wellhead.cli.doctor_finding import Finding, failed, ok, warning
from wellhead.errors import LocalStateError, SettingsError
from wellhead.model.names import is_loopback
from wellhead.net.certificates import alarm_step
from wellhead.net.keypair import read_issued, read_operators
from wellhead.net.proxy import VARIABLES, proxy_for
from wellhead.net.sockets import Address, authority, listen, parse_address
from wellhead.profile import Profile
from wellhead.settings import ServerSettings

FILES_NEEDED = 1024  # descriptors; each visitor of a server takes one
FILES_WANTED = 16384
ASK_SECONDS = 2.0
_PRIVATE_FILES = (
    "profile.toml",
    "server/admin-key",
    "server/ca.key",
    "server/links-key",
    "server/acme/account-key.pem",
)

Lookup = Callable[[str], list[str]]


def check_home(home: Path) -> Finding:
    """Whether somebody else could read or replace what is kept there."""
    check = "home"
    if not home.exists() and not home.is_symlink():
        return ok(check, f"{home} does not exist yet; it is made when it is needed")
    try:
        private.check_directory(home)
        for name in _PRIVATE_FILES:
            private.read(home / name)
        Profile.load(home)
    except (LocalStateError, SettingsError) as error:
        found, _, command = str(error).partition("; run: ")
        return failed(check, found, f"run: {command}" if command else "put it right, or move it away")
    return ok(check, f"{home} and what is in it belong to this user alone")


def check_files(limits: tuple[int, int] | None = None) -> Finding:
    """How many connections a process may hold: the hard limit, to which a server raises its own."""
    check = "files"
    _, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FILES_WANTED:
        many = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
        return ok(check, f"a process may open {many} files")
    found = f"a process may open {hard} files, and each connection is one"
    remedy = "raise the hard limit: LimitNOFILE=65536 in a systemd unit, or /etc/security/limits.conf"
    return (failed if hard < FILES_NEEDED else warning)(check, found, remedy)


def look_up(name: str) -> list[str]:
    """The addresses that the system's resolver gives.

    Raises:
        OSError: none.
    """
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(name, None)))


def check_localhost(lookup: Lookup = look_up, name: str = "a-tunnel.localhost") -> Finding:
    """Whether other programs here find names under localhost. We do, and browsers do, without asking."""
    check = "localhost"
    remedy = (
        "browsers and Wellhead know these names without it; for curl give"
        f" --resolve NAME.localhost:PORT:127.0.0.1, or add a line `127.0.0.1 {name}` to /etc/hosts;"
        " for all of them, those of sandboxes' ports too, install libnss-myhostname"
    )
    try:
        addresses = lookup(name)
    except OSError:
        return warning(check, "the system's resolver does not know names under localhost", remedy)
    if strangers := [address for address in addresses if not is_loopback(address)]:
        return warning(check, f"the system's resolver sends {name} to {', '.join(strangers)}", remedy)
    return ok(check, f"names under localhost lead to {', '.join(addresses)}")


def check_proxy(hostname: str, port: int, environ: Mapping[str, str]) -> Finding:
    """Which proxy an agent would take to the server, if any."""
    check = "proxy"
    names = [name for name in VARIABLES if environ.get(name)]
    if not names:
        return ok(check, "no proxy variable is set")
    if is_loopback(hostname):
        return ok(check, f"{names[0]} is set and does not matter: the server is on this machine")
    try:
        proxy = proxy_for(hostname, port, environ)
    except SettingsError as error:
        return failed(check, str(error), f"set {names[0]} to http://HOST:PORT, or unset it")
    if proxy is None:
        return ok(check, f"{names[0]} is set, NO_PROXY excepts {hostname}")
    return ok(check, f"{names[0]} matters: {hostname}:{port} is reached through {proxy.host}:{proxy.port}")


def check_port(check: str, address: str | None, *, needed: bool) -> Finding:
    """Whether ``wellhead up`` could listen at an address of its settings; ``check`` is ``https`` or ``http``.

    ``needed`` False: the server is another machine, so a conflict here is no fault.
    """
    if address is None:
        return ok(check, "off in the settings")
    where = parse_address(address)
    try:
        for sock in listen(*where):
            sock.close()
    except SettingsError as error:
        return _conflict(check, where, error, needed)
    return ok(check, f"{address} is free for `wellhead up`")


def _conflict(check: str, where: Address, error: SettingsError, needed: bool) -> Finding:
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if number == errno.EADDRINUSE and _is_ours(where, tls=check == "https"):
        return ok(check, f"a Wellhead server listens on {authority(*where)}")
    verdict = failed if needed else warning
    match number:
        case errno.EADDRINUSE:
            remedy = f"end the program that has it, or `wellhead up --{check} {where.host}:PORT`"
        case errno.EACCES:
            remedy = (
                "ports below 1024 are for root, or for a unit with AmbientCapabilities=CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            remedy = "no interface of this machine has this address; 0.0.0.0 is all of them"
        case _:
            remedy = f"choose another with `wellhead up --{check} HOST:PORT`"
    return verdict(check, str(error), remedy)


def _is_ours(where: Address, *, tls: bool) -> bool:
    """Whether what listens there answers as a control plane does. It is sent no secret."""
    host = where.host if where.host not in ("0.0.0.0", "::", "*", "") else "127.0.0.1"
    connection: http.client.HTTPConnection
    if tls:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, where.port, timeout=ASK_SECONDS, context=trusting)
    else:
        connection = http.client.HTTPConnection(host, where.port, timeout=ASK_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().read(4096).startswith(b'{"status":"ok","version":')
        except (OSError, http.client.HTTPException):
            return False


def server_settings(config: Path | None) -> ServerSettings | Finding:
    """The settings of ``wellhead up`` here, or what is wrong with them."""
    try:
        return ServerSettings.load(config)
    except SettingsError as error:
        return failed("settings", "; ".join(str(error).splitlines()), "correct it: `wellhead up --check`")


def check_certificates(settings: ServerSettings) -> Finding | None:
    """Whether a server here could serve the certificates that lie in files; None where there are none."""
    check, now = "certs", dt.datetime.now(dt.UTC)
    directory = settings.data_dir / issued.DIRECTORY
    pairs = []
    try:
        pairs += [read_operators(*files) for files in settings.tls_pairs]
        if directory.is_dir():
            private.check_directory(directory)
            found = [read_issued(entry) for entry in sorted(directory.iterdir()) if entry.is_dir()]
            pairs += [pair for pair in found if pair is not None]
    except (LocalStateError, OSError) as error:
        told, _, command = str(error).partition("; run: ")
        return failed(check, told, f"run: {command}" if command else "put it right, or move it away")
    if not pairs:
        return None
    first = min(pairs, key=lambda pair: pair.ends)
    if reason := first.out_of_time(now):
        return failed(check, reason, "renew it; a server that runs reads it by itself")
    if alarm_step(first.ends - now, first.life) is not None:
        when = f"{first.source} ends on {first.ends:%Y-%m-%d %H:%M} UTC"
        return warning(check, when, "renew it, or find out from the server's log why it was not")
    return ok(check, f"{len(pairs)} in files, the first to end does on {first.ends:%Y-%m-%d}")
