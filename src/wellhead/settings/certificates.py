"""Who signs certificates, how names are proved, and how many are ordered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import NoDecode

from wellhead.errors import InputError
from wellhead.model.text import shown
from wellhead.settings.places import PlaceSettings
from wellhead.settings.values import Directory, DnsServer, Domain, Hostname, listed


def _acme_directory(text: str) -> str:
    if not text.startswith("https://") or any(c.isspace() for c in text):
        raise InputError(f"{shown(text)} is not an https:// URL")
    return text


def _key_pairs(pairs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(":".join(str(path) for path in _key_pair(pair)) for pair in pairs)


def _key_pair(text: str) -> tuple[Path, Path]:
    parts = text.split(":")
    if len(parts) != 2 or not all(parts):
        raise InputError(f"{shown(text)} is no pair of files, expected CERTIFICATE:KEY")
    certificate, key = (Path(part).expanduser().absolute() for part in parts)
    return certificate, key


KeyPairs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed), AfterValidator(_key_pairs)]
_DNS_NEEDS = {
    "rfc2136": ("dns_server", "dns_tsig_name", "dns_tsig_secret_file"),
    "command": ("dns_command",),
}


class CertificateSettings(PlaceSettings):
    """Of the server's own names and of tunnels."""

    tls_files: KeyPairs = Field(
        (),
        description="Certificates of the operator's, `CERTIFICATE:KEY` each, both PEM files, the certificate"
        " followed by its issuers; comma separated in a variable.",
    )
    tls_reload_seconds: PositiveFloat = Field(
        30.0,
        description="Time between two looks whether a certificate's files changed; SIGHUP looks at once.",
    )
    issuer: Literal["local", "acme", "files"] = Field(
        "local",
        description="Who signs certificates: `local`, the server's own CA; `acme`, a public one; `files`, the"
        " operator. Without its own CA the edge answers a name that has no certificate by a TLS alert.",
    )
    acme_directory: Annotated[str, AfterValidator(_acme_directory)] = Field(
        "https://acme-v02.api.letsencrypt.org/directory",
        description="The ACME directory; with `issuer = acme` its terms of service are agreed to.",
    )
    acme_email: str | None = Field(
        None, description="Where the certificate authority writes to, about its account."
    )
    acme_ca_file: Directory | None = Field(
        None,
        description="PEM file of the authorities that vouch for the ACME directory; default: public ones.",
    )
    acme_challenge: Literal["http-01", "tls-alpn-01", "dns-01"] = Field(
        "http-01",
        description="How the names are shown to be ours: `http-01` at port 80, `tls-alpn-01` at port 443,"
        " `dns-01` in the DNS, which also gives a wildcard certificate.",
    )
    acme_eab_kid: str | None = Field(
        None, description="Key id of the external account that the ACME account is bound to."
    )
    acme_eab_key_file: Directory | None = Field(
        None, description="File, mode 0600, of that account's MAC key in base64url."
    )
    acme_account_key_days: NonNegativeInt = Field(
        365, description="Age at which the ACME account's own key is changed for a new one; 0: never."
    )
    acme_order_seconds: PositiveFloat = Field(
        150.0, le=170, description="Longest time from a certificate's order to the certificate."
    )
    dns_provider: Literal["rfc2136", "route53", "command"] | None = Field(
        None, description="How `dns-01` writes its records: DNS updates, Amazon Route 53, or a program."
    )
    dns_server: DnsServer | None = Field(
        None, description="`rfc2136`: the zone's primary server, HOST or HOST:PORT."
    )
    dns_resolver: DnsServer | None = Field(
        None,
        description="DNS server, HOST or HOST:PORT, that is asked where an `_acme-challenge` name leads that"
        " is an alias (CNAME): the record is written there. Default: this machine's resolver.",
    )
    dns_zone: Domain | None = Field(
        None, description="The zone that records are written into; default: the innermost that there is."
    )
    dns_tsig_name: Hostname | None = Field(None, description="`rfc2136`: name of the TSIG key.")
    dns_tsig_secret_file: Directory | None = Field(
        None, description="`rfc2136`: file, mode 0600, of the TSIG key in base64."
    )
    dns_tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = Field(
        "hmac-sha256", description="`rfc2136`: the TSIG key's algorithm."
    )
    dns_command: Directory | None = Field(
        None, description="`command`: the program, called with `add` or `remove`, a name and a value."
    )
    dns_wait_seconds: PositiveFloat = Field(
        120.0, description="Longest wait until a record that was written is answered everywhere."
    )
    local_certificate_days: PositiveFloat = Field(
        90.0, le=397, description="Life of a certificate that the local authority signs for an agent's key."
    )
    name_hold: Literal["public", "every", "off"] = Field(
        "public",
        description="A deleted tunnel's name is kept from other organizations until its last certificate"
        " expires: of a `public` issuer (the local one's are revoked), of `every` issuer, or `off`.",
    )
    csr_per_tunnel_per_hour: PositiveInt = Field(
        20,
        description="Most certificates ordered for one tunnel in an hour; beyond: 429."
        " From the local authority, seven times as many in a week.",
    )
    issue_budget_per_name_per_week: PositiveInt = Field(
        4,
        description="Most certificates ordered from a public issuer for one name in a week; beyond: 429."
        " No budget counts a renewal that is due.",
    )
    issue_budget_per_organization_per_week: PositiveInt = Field(
        20,
        description="Most certificates ordered from a public issuer for one organization in a week; beyond:"
        " 429.",
    )
    issue_budget_per_week: PositiveInt = Field(
        45, description="Most certificates ordered from a public issuer in a week; beyond: 429."
    )

    @property
    def tls_pairs(self) -> list[tuple[Path, Path]]:
        """The operator's certificates and keys."""
        return [_key_pair(pair) for pair in self.tls_files]

    def issuing_problems(self) -> list[str]:
        """What the chosen issuer lacks, a sentence each, beginning with the setting."""
        if self.issuer == "files" and not self.tls_files:
            return ["tls_files: needed, because issuer is files"]
        if self.issuer != "acme":
            return []
        needs = [("acme_eab_kid", "acme_eab_key_file"), ("acme_eab_key_file", "acme_eab_kid")]
        problems = [
            f"{missing}: needed, because {given} is set"
            for given, missing in needs
            if getattr(self, given) is not None and getattr(self, missing) is None
        ]
        if self.acme_challenge == "http-01" and self.http is None:
            problems.append("http: needed, because acme_challenge is http-01, which is asked for at port 80")
        if self.acme_challenge == "dns-01":
            if self.dns_provider is None:
                problems.append(
                    "dns_provider: needed, because acme_challenge is dns-01: rfc2136, route53 or command"
                )
            problems += [
                f"{missing}: needed, because dns_provider is {self.dns_provider}"
                for missing in _DNS_NEEDS.get(self.dns_provider or "", ())
                if getattr(self, missing) is None
            ]
        return problems
