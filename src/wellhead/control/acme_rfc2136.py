"""TXT records by DNS updates that a TSIG key signs, and the wait until all servers of the zone answer them.

Source: RFC 2136 (updates), RFC 8945 (TSIG).
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from pathlib import Path
from typing import Final

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from wellhead import private
from wellhead.control.dns_servers import ASK_SECONDS, DNS_PORT, addresses
from wellhead.errors import IssuerError, LocalStateError
from wellhead.logs import Log

TTL: Final = 60  # seconds
POLL_SECONDS: Final = (0.1, 5.0)  # first and longest pause between two looks
SILENT_TRIES: Final = 3  # a server of the zone that never answers is not waited for any longer

_log = Log("wellhead.control")


class TsigKey:
    """
    Raises:
        LocalStateError: the secret's file is missing, open to others, or no base64.
    """

    def __init__(self, name: str, secret_file: Path, algorithm: str) -> None:
        secret = private.read(secret_file)
        if secret is None:
            raise LocalStateError(f"dns_tsig_secret_file: {secret_file} is missing")
        try:
            self.key = dns.tsig.Key(name, secret.strip(), algorithm)
        except ValueError as error:
            raise LocalStateError(f"dns_tsig_secret_file: {secret_file} holds no base64") from error


class DnsUpdates:
    """``server`` is the zone's primary, HOST:PORT. ``zone`` None: the innermost that the server answers for.

    ``port`` is where the zone's other servers answer.
    """

    def __init__(
        self, server: str, key: TsigKey, *, zone: str | None, wait_seconds: float, port: int = DNS_PORT
    ) -> None:
        self._server = server
        self._key = key.key
        self._zone = None if zone is None else dns.name.from_text(zone)
        self._wait = wait_seconds
        self._port = port
        self._good: tuple[str, int] | None = None  # the server's address that answered

    async def add(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        zone = await self._zone_of(dns.name.from_text(name))
        update = self._update(zone)
        update.add(dns.name.from_text(name), TTL, "TXT", _quoted(value))
        await self._send(update, f"adding {name}")
        try:
            async with asyncio.timeout(self._wait):
                await self._everywhere(zone, dns.name.from_text(name), value)
        except TimeoutError as error:
            raise IssuerError(
                f"the servers of {zone} do not all answer with the record {name} after {self._wait:g} s",
                reason="dns-wait",
            ) from error

    async def remove(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        zone = await self._zone_of(dns.name.from_text(name))
        update = self._update(zone)
        update.delete(dns.name.from_text(name), "TXT", _quoted(value))
        await self._send(update, f"removing {name}")

    def _update(self, zone: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(zone, keyring=self._key)

    async def _send(self, update: dns.update.UpdateMessage, what: str) -> None:
        answer, _ = await self._ask_primary(update, what)
        if answer.rcode() != dns.rcode.NOERROR:
            code = dns.rcode.to_text(answer.rcode())
            raise IssuerError(f"the DNS server {self._server} refused {what}: {code}", reason="dns")

    async def _ask(
        self, message: dns.message.Message, where: tuple[str, int], what: str
    ) -> dns.message.Message:
        """
        Raises:
            IssuerError: no answer, or none that the key has signed.
        """
        try:
            if isinstance(message, dns.update.UpdateMessage):
                return await dns.asyncquery.tcp(message, where[0], timeout=ASK_SECONDS, port=where[1])
            answer, _ = await dns.asyncquery.udp_with_fallback(
                message, where[0], timeout=ASK_SECONDS, port=where[1]
            )
            return answer
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise IssuerError(
                f"no answer to {what} from the DNS server {where[0]}:{where[1]}:"
                f" {str(error) or type(error).__name__}",
                reason="dns",
            ) from error

    async def _ask_primary(
        self, message: dns.message.Message, what: str
    ) -> tuple[dns.message.Message, tuple[str, int]]:
        """An answer, and the address that gave it: each of the server's is tried, the last good one first."""
        found = await addresses(self._server, "dns_server")
        failure: IssuerError | None = None
        for where in sorted(found, key=lambda where: where != self._good):
            try:
                answer = await self._ask(message, where, what)
            except IssuerError as error:
                failure = error
                continue
            self._good = where
            return answer, where
        assert failure is not None
        raise failure

    async def _zone_of(self, name: dns.name.Name) -> dns.name.Name:
        if self._zone is not None:
            return self._zone
        answer, _ = await self._ask_primary(dns.message.make_query(name, "SOA"), f"the zone of {name}")
        for rrset in (
            *answer.answer,
            *answer.authority,
        ):  # of a name without records: in the authority section
            if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
                return rrset.name
        raise IssuerError(f"the DNS server {self._server} has no zone for {name}", reason="dns")

    # The wait

    async def _everywhere(self, zone: dns.name.Name, name: dns.name.Name, value: str) -> None:
        left = await self._servers(zone)
        silent: Counter[tuple[str, int]] = Counter()
        pause = POLL_SECONDS[0]
        while True:
            seen = await asyncio.gather(*(self._has(where, name, value) for where in left))
            silent.update(where for where, has in zip(left, seen, strict=True) if has is None)
            left = [where for where, has in zip(left, seen, strict=True) if not has]
            left = [where for where in left if silent[where] < SILENT_TRIES]
            if not left:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS[1])
        for where in (where for where, tries in silent.items() if tries >= SILENT_TRIES):
            _log.warning("name server does not answer", server=where[0], zone=str(zone))

    async def _has(self, where: tuple[str, int], name: dns.name.Name, value: str) -> bool | None:
        """Whether a server answers with the value; None where it does not answer."""
        query = dns.message.make_query(name, "TXT")
        query.flags &= ~dns.flags.RD
        try:
            answer = await self._ask(query, where, f"{name} TXT")
        except IssuerError:
            return None
        return any(
            value.encode() == b"".join(record.strings)
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for record in rrset
        )

    async def _servers(self, zone: dns.name.Name) -> list[tuple[str, int]]:
        """The primary, and every address of the zone's name servers."""
        answer, primary = await self._ask_primary(dns.message.make_query(zone, "NS"), f"{zone} NS")
        hosts = [
            record.target for rrset in answer.answer if rrset.rdtype == dns.rdatatype.NS for record in rrset
        ]
        found = {primary: None}
        for host in hosts:
            for address in await self._addresses(host, primary):
                if address != primary[0]:
                    found[address, self._port] = None
        return list(found)

    async def _addresses(self, host: dns.name.Name, primary: tuple[str, int]) -> list[str]:
        """Asked of the primary, which knows those in its own zone, then of this machine's resolver."""
        found: list[str] = []
        for kind in ("A", "AAAA"):
            answer = await self._ask(dns.message.make_query(host, kind), primary, f"{host} {kind}")
            found += [
                record.address
                for rrset in answer.answer
                if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
                for record in rrset
            ]
        if found:
            return found
        try:
            told = await asyncio.get_running_loop().getaddrinfo(
                host.to_text(omit_final_dot=True), DNS_PORT, type=socket.SOCK_DGRAM
            )
        except OSError:
            _log.warning("name server without an address", server=str(host))
            return []
        return list(dict.fromkeys(str(one[4][0]) for one in told))


def _quoted(value: str) -> str:
    return f'"{value}"'
