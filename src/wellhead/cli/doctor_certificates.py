"""Checks of the certificates that agents of this machine hold for passthrough tunnels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from wellhead import private
from wellhead.agent.certificate import CHAIN
from wellhead.cli.doctor_finding import Finding, failed, ok, skipped, warning
from wellhead.cli.doctor_server import STEP_SECONDS, Server
from wellhead.client import AsyncClient, Timeouts
from wellhead.errors import LocalStateError, WellheadError
from wellhead.model.access import Secret
from wellhead.model.certificates import CertificateRecord, CertificateStatus

CHECK = "cert"
_NEW_ONE = "the agent has a new one signed when it starts"


def chains(home: Path) -> list[Path]:
    """The certificates of agents' that are kept in a home."""
    return sorted(home.glob(f"tunnels/*/{CHAIN}"))


async def check_certificates(
    server: Server, key: Secret | None, files: Sequence[Path]
) -> AsyncIterator[Finding]:
    """A finding for each of these certificates, held against what the server knows of it."""
    if not files:
        return
    try:
        known = {each.fingerprint_sha256: each for each in await _known(server, key)}
    except WellheadError as error:
        yield skipped(CHECK, f"the server was not asked which certificates are void: {error}")
        known = {}
    for file in files:
        yield check_certificate(file, known, datetime.now(UTC))


def check_certificate(file: Path, known: dict[str, CertificateRecord], now: datetime) -> Finding:
    """One agent's certificate; ``known``: the server's, by fingerprint."""
    tunnel = file.parent.name
    try:
        leaf = x509.load_pem_x509_certificate((private.read(file) or "").encode())
    except (LocalStateError, ValueError) as error:
        return failed(CHECK, f"{tunnel}: {file} cannot be read: {error}", f"move it away: {_NEW_ONE}")
    record = known.get(leaf.fingerprint(hashes.SHA256()).hex())
    if record is not None and record.status is CertificateStatus.REVOKED:
        what = f"{tunnel}: the certificate was revoked, for its tunnel was deleted"
        return failed(CHECK, what, f"remove {file.parent}: nobody may believe it")
    left = leaf.not_valid_after_utc - now
    if left <= timedelta():
        ended = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return warning(CHECK, f"{tunnel}: the certificate ended at {ended}", _NEW_ONE)
    return ok(CHECK, f"{tunnel}: the certificate is good for {left / timedelta(days=1):.1f} more days")


async def _known(server: Server, key: Secret | None) -> Sequence[CertificateRecord]:
    timeouts = Timeouts(STEP_SECONDS, STEP_SECONDS, retry_seconds=0)
    async with AsyncClient(
        server.url, key or Secret(""), ca_file=server.ca_file, timeouts=timeouts
    ) as client:
        return await client.certs.list()
