"""Public certificates: the ACME issuer, put together from its settings."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from acme import messages
from cryptography import x509

from wellhead.control.acme_account import Account, ExternalAccount
from wellhead.control.acme_client import AcmeClient, is_problem
from wellhead.control.acme_hook import Hook
from wellhead.control.acme_order import Orders
from wellhead.control.acme_proof import AlpnProver, DnsProver, HttpProver, Prover, Records
from wellhead.control.acme_rfc2136 import DnsUpdates, TsigKey
from wellhead.control.acme_route53 import Route53
from wellhead.control.challenges import Challenges
from wellhead.control.dns_servers import Aliases
from wellhead.errors import IssuerError, LocalStateError
from wellhead.model.certificates import Issued
from wellhead.settings import ServerSettings

DIRECTORY: Final = "acme"  # in the server's data directory
_CESSATION: Final = 5  # cessationOfOperation (RFC 5280 section 5.3.1): the name is released


class AcmeIssuer:
    """An Issuer; ``client`` and ``account`` are for whoever looks after them."""

    name = "acme"

    def __init__(self, client: AcmeClient, account: Account, orders: Orders) -> None:
        self.client = client
        self.account = account
        self._orders = orders

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        """As ``Issuer`` says; one order for each request. ``replaces``: see ``Orders.certificate``."""
        return await self._orders.certificate(csr, names, replaces)

    async def revoke(self, leaf_pem: str) -> None:
        """As ``Issuer`` says (RFC 8555 section 7.6)."""
        certificate = x509.load_pem_x509_certificate(leaf_pem.encode())
        await self.account.ready()
        directory = await self.client.directory()
        body = messages.Revocation(certificate=certificate, reason=_CESSATION)
        try:
            await self.client.post("a revocation", directory["revokeCert"], body)
        except IssuerError as error:
            if not is_problem(error, "alreadyRevoked"):
                raise

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        """As ``AcmeClient`` says."""
        await self.account.ready()
        return await self.client.renewal_time(leaf_pem)

    def renewal_id(self, leaf_pem: str) -> str | None:
        """How a certificate that is to be replaced is named; None where it has no issuer's key identifier.

        Source: RFC 9773 section 4.1.
        """
        leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
        try:
            issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        except x509.ExtensionNotFound:
            return None
        if issuer.key_identifier is None:
            return None
        serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
        return f"{_base64url(issuer.key_identifier)}.{_base64url(serial)}"

    async def close(self) -> None:
        await self._orders.close()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def acme_issuer(settings: ServerSettings, challenges: Challenges) -> AcmeIssuer:
    """The issuer that the settings describe; they were checked (``issuing_problems``).

    Raises:
        LocalStateError: a key's file, or the directory, is missing, unsafe or unreadable.
        SettingsError: a package for the DNS provider is not installed.
    """
    directory = settings.data_dir / DIRECTORY
    client = AcmeClient(settings.acme_directory, _readable(settings.acme_ca_file))
    external = None
    if settings.acme_eab_kid is not None and settings.acme_eab_key_file is not None:
        external = ExternalAccount(settings.acme_eab_kid, settings.acme_eab_key_file)
    account = Account(
        directory,
        client,
        contact=settings.acme_email,
        external=external,
        key_days=settings.acme_account_key_days,
    )
    orders = Orders(
        client,
        account,
        _prover(settings, challenges),
        directory / "orders",
        order_seconds=settings.acme_order_seconds,
    )
    return AcmeIssuer(client, account, orders)


def _readable(ca_file: Path | None) -> Path | None:
    if ca_file is not None:
        try:
            x509.load_pem_x509_certificates(ca_file.read_bytes())
        except OSError as error:
            raise LocalStateError(f"acme_ca_file: cannot read {ca_file}: {error.strerror}") from error
        except ValueError as error:
            raise LocalStateError(f"acme_ca_file: {ca_file} holds no certificate") from error
    return ca_file


def _prover(settings: ServerSettings, challenges: Challenges) -> Prover:
    match settings.acme_challenge:
        case "http-01":
            return HttpProver(challenges)
        case "tls-alpn-01":
            return AlpnProver(challenges)
        case "dns-01":
            return DnsProver(_records(settings), Aliases(settings.dns_resolver).end_of)


def _records(settings: ServerSettings) -> Records:
    wait = settings.dns_wait_seconds
    match settings.dns_provider:
        case "rfc2136":
            assert settings.dns_server and settings.dns_tsig_name and settings.dns_tsig_secret_file
            key = TsigKey(settings.dns_tsig_name, settings.dns_tsig_secret_file, settings.dns_tsig_algorithm)
            return DnsUpdates(settings.dns_server, key, zone=settings.dns_zone, wait_seconds=wait)
        case "route53":
            return Route53(settings.dns_zone, wait)
        case _:
            assert settings.dns_command is not None
            return Hook(settings.dns_command, wait)
