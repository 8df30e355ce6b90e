"""Tunnel names, hostnames and public addresses: what is well formed, what is reserved, what they become.

A *hostname* is a DNS name or an IP address without port, lower case; an *authority* may carry a port.
Strings come from strangers, so every check is over a fixed set of ASCII characters.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from wellhead.errors import InputError
from wellhead.model.text import shown

NAME_MIN = 3  # characters
NAME_MAX = 63  # characters: one DNS label

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SANDBOX_PORT = re.compile(r"[0-9]+-cl-.*")  # {port}-{sandbox id}: the hostname pattern of sandbox ports
_TUNNEL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # agents may say this instead of a name

RESERVED = frozenset(
    """
    abuse account acme admin administrator api app auth autoconfig autodiscover billing blog cdn connect
    console dashboard dev dns docs edge email ftp git gateway help host hostmaster hosts imap info internal
    localhost login mail metrics mta-sts news noc ns ns1 ns2 oauth operator ops pop pop3 postmaster proxy
    public relay root sandbox security server shop signin smtp ssh ssl staging static status support system
    test tls tunnel tunnels webmaster webmail wellhead wpad www zone
    """.split()
)

# Words that nobody minds in a hostname; with the suffix they make more than 2^32 names.
_FIRST = """
    amber autumn bold brave bright brisk calm clear clever copper coral cosy crisp curious daily dapper
    deep eager early easy fair fast fine fleet fond fresh gentle glad golden grand green happy hardy
    hidden honest humble indigo ivory jolly keen kind late lively lucky mellow merry mild misty modest
    neat nimble noble open patient plain polite proud quick quiet rapid rosy round ruby rustic sandy
    shiny silent silver simple sleek smart smooth snowy solid spry steady sunny sweet swift tidy tiny
    upbeat velvet vivid warm wild wise witty
""".split()
_SECOND = """
    acorn alder anchor apple arrow aspen badger bay beacon beech birch bison bloom breeze brook canyon
    cedar cliff cloud clover comet cove crane creek dawn delta dune eagle elm ember falcon fern field
    finch fjord forest fox garden glade grove gull harbor hare hawk hazel heron hill island ivy jay
    juniper lagoon lake lark laurel leaf lily linden lynx maple marsh meadow moon moss oak ocean olive
    orchard otter owl pebble pine plum pond poplar prairie quail rain raven reed reef ridge river robin
    sage shore sparrow spring spruce star stone stream summit swan thistle tide trail tulip valley wave
    willow wind wren
""".split()
_SUFFIX = "23456789abcdefghjkmnpqrstuvwxyz"  # no characters that are taken for one another


def name_fault(name: str) -> str | None:
    """The first rule a tunnel name breaks, as a sentence that names the value; None for a good name.

    Source: inkbox-tunnels, "Names": 3 to 63 of ``a-z 0-9 -``, ends alphanumeric, no ``--``.
    """
    if not NAME_MIN <= len(name) <= NAME_MAX:
        return f"tunnel name {shown(name)} has {len(name)} characters, {NAME_MIN} to {NAME_MAX} are allowed"
    if wrong := next((c for c in name if c not in "abcdefghijklmnopqrstuvwxyz0123456789-"), None):
        return f"tunnel name {shown(name)} contains {shown(wrong)}, only a-z, 0-9 and - are allowed"
    if name[0] == "-" or name[-1] == "-":
        return f"tunnel name {shown(name)} must begin and end with a letter or a digit"
    if "--" in name:
        return f'tunnel name {shown(name)} must not contain "--"'
    return None


def check_name(name: str) -> str:
    """The name itself, when it is well formed.

    Raises:
        InputError: says which rule is broken.
    """
    if fault := name_fault(name):
        raise InputError(fault)
    return name


def is_reserved(name: str, extra: Collection[str] = ()) -> bool:
    """Whether a well-formed name is kept from tunnels; ``extra`` comes from settings."""
    if name in RESERVED or name in extra:
        return True
    return any(pattern.fullmatch(name) for pattern in (_SANDBOX_PORT, _TUNNEL_ID))


def suggest() -> str:
    """A fresh name, ``word-word-xxxx``."""
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(4))
    return f"{secrets.choice(_FIRST)}-{secrets.choice(_SECOND)}-{suffix}"


def split_authority(authority: str) -> tuple[str, int | None]:
    """Hostname and port of ``name``, ``name:port``, ``1.2.3.4:port`` or ``[::1]:port``.

    The hostname is lower case, without brackets and without one trailing dot.

    Raises:
        InputError: neither a DNS name nor an address, or a port outside 0..65535.
    """
    if authority.startswith("["):
        inside, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InputError(f"{shown(authority)} is not an address: expected [IPv6] or [IPv6]:PORT")
        return _address(inside, 6, authority), _port(rest[1:], authority) if rest else None
    host, colon, port = authority.partition(":")
    if not host or ":" in port:
        raise InputError(f"{shown(authority)} is not an address: expected HOST:PORT or [IPv6]:PORT")
    return check_hostname(host), _port(port, authority) if colon else None


def check_hostname(hostname: str) -> str:
    """The hostname in its canonical spelling: lower case, one trailing dot stripped; IPv6 without brackets.

    Raises:
        InputError: neither a DNS name nor an IP address.
    """
    if not hostname.isascii():
        raise InputError(f"hostname {shown(hostname)} is not ASCII")
    host = hostname.lower().removesuffix(".")
    if ":" in host:
        return _address(host, 6, hostname)
    labels = host.split(".")
    if all(label.isdigit() for label in labels):  # ASCII digits: isascii() was asked above
        return _address(host, 4, hostname)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InputError(f"{shown(hostname)} is not a hostname")
    return host


def _address(text: str, version: int, whole: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or "%" in text:
        raise InputError(f"{shown(whole)} is not an IPv{version} address")
    return str(address)


def _port(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise InputError(f"{shown(whole)} has port {shown(text)}, expected a number from 0 to 65535")
    return int(text)


@functools.lru_cache(1024)  # asked for each connection, and few visitors connect once
def is_loopback(host: str) -> bool:
    """Whether a name or IP address means this machine: ``localhost``, ``*.localhost``, 127/8, ::1.

    Source: RFC 6761 section 6.3 for the names.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # how a socket for both families shows an IPv4 peer
    return ip.is_loopback


def address_group(ip: str) -> str:
    """What limits per address count by: an IPv4 address, or the /64 network of an IPv6 address.

    One customer of a provider has a /64 at least, so single IPv6 addresses limit nobody.
    """
    if ":" not in ip:
        return ip
    try:
        address = ipaddress.IPv6Address(ip.partition("%")[0])
    except ValueError:
        return ip
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def join_authority(hostname: str, port: int | None) -> str:
    """``hostname:port``, with brackets around IPv6; without the port where it is None."""
    host = f"[{hostname}]" if ":" in hostname else hostname
    return host if port is None else f"{host}:{port}"


VOID_LIST = "/ca.crl"


@dataclass(frozen=True, slots=True)
class Public:
    """How the world reaches this server: known once its sockets are bound."""

    domain: str  # tunnels are labels under it
    zone: str  # the hostname agents dial
    https_port: int
    http_port: int | None = None  # None: no plain port

    def hostname(self, name: str) -> str:
        """The hostname of a tunnel."""
        return f"{name}.{self.domain}"

    def urls(self, name: str, *, plain: bool = True) -> list[str]:
        """The public URLs of a tunnel, https first; the port is there where it is not the scheme's.

        ``plain``: whether it is served without TLS too, where there is a port for that.
        """
        return self._urls(self.hostname(name))[: None if plain else 1]

    @property
    def api_url(self) -> str:
        """The control plane's base URL, at the zone name."""
        return self._urls(self.zone)[0]

    @property
    def void_list_url(self) -> str | None:
        """Where the local authority's list of void certificates is read without TLS, which itself would need
        it (RFC 5280 section 8); None where there is no plain port.
        """
        urls = self._urls(self.zone)
        return urls[1] + VOID_LIST if len(urls) > 1 else None

    def _urls(self, hostname: str) -> list[str]:
        https = None if self.https_port == 443 else self.https_port
        urls = [f"https://{join_authority(hostname, https)}"]
        if self.http_port is not None:
            http = None if self.http_port == 80 else self.http_port
            urls.append(f"http://{join_authority(hostname, http)}")
        return urls


def base_url(text: str) -> str:
    """A control plane's base URL in its canonical spelling: ``https://authority``, no trailing slash.

    ``http://`` is taken for this machine only: a key would cross the network in clear.

    Raises:
        InputError: another scheme, user information, a path, a query, or not a hostname.
    """
    scheme, found, rest = text.partition("://")
    scheme, authority = scheme.lower(), rest.rstrip("/")
    if not found or scheme not in ("https", "http"):
        raise InputError(f"{shown(text)} is not a server's URL, expected https://HOST or https://HOST:PORT")
    if any(c in authority for c in "/?#@"):
        raise InputError(f"{shown(text)} must be https://HOST or https://HOST:PORT and nothing more")
    hostname, port = split_authority(authority)
    if scheme == "http" and not is_loopback(hostname):
        raise InputError(
            f"{shown(text)} would send the key in clear, use https (http is for this machine only)"
        )
    return f"{scheme}://{join_authority(hostname, None if port == _DEFAULT_PORTS[scheme] else port)}"


_DEFAULT_PORTS = {"https": 443, "http": 80}
