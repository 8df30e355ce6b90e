"""DNS servers of the settings, and where an ``_acme-challenge`` name leads that is an alias (CNAME)."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from wellhead.errors import IssuerError
from wellhead.logs import Log
from wellhead.model.names import split_authority

DNS_PORT: Final = 53
ASK_SECONDS: Final = 5.0  # for one answer of one server
ALIASES_MAX: Final = 8  # one behind the other

_log = Log("wellhead.control")


async def addresses(server: str, setting: str) -> list[tuple[str, int]]:
    """Every address of ``server``, HOST:PORT as ``setting`` has it, each once.

    Raises:
        IssuerError: it is not found.
    """
    hostname, port = split_authority(server)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            hostname, port or DNS_PORT, type=socket.SOCK_DGRAM
        )
    except OSError as error:
        raise IssuerError(f"{setting} {server} is not found: {error.strerror}", reason="dns") from error
    return list(dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found))


class Aliases:
    """Follows CNAME records; ``server`` is asked, HOST:PORT, None: this machine's resolver."""

    def __init__(self, server: str | None = None) -> None:
        self._server = server

    async def end_of(self, name: str) -> str:
        """The name at the end of the aliases that begin at ``name``: itself where there are none.

        Where nobody answers it is taken for itself, and the log says so.

        Raises:
            IssuerError: more than ALIASES_MAX stand one behind the other.
        """
        place = dns.name.from_text(name)
        for _ in range(ALIASES_MAX + 1):
            target = await self._target(place)
            if target is None:
                return place.to_text(omit_final_dot=True)
            place = target
        raise IssuerError(f"{name} has more than {ALIASES_MAX} aliases, one behind the other", reason="dns")

    async def _target(self, name: dns.name.Name) -> dns.name.Name | None:
        try:
            resolver = await self._resolver()
            answer = await resolver.resolve(name, "CNAME", raise_on_no_answer=False, lifetime=ASK_SECONDS)
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError, IssuerError) as error:
            _log.warning("alias not asked for", name=str(name), reason=str(error) or type(error).__name__)
            return None
        target: dns.name.Name | None = None if answer.rrset is None else answer.rrset[0].target
        return target

    async def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._server is None:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        found = await addresses(self._server, "dns_resolver")
        resolver.nameservers = [address for address, _ in found]
        resolver.port = found[0][1]
        return resolver
