"""Agents' certificates as ``wellhead doctor`` sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.kit.certs import self_signed
from wellhead import private
from wellhead.cli.doctor_certificates import chains, check_certificate, check_certificates
from wellhead.cli.doctor_finding import Finding, Verdict
from wellhead.cli.doctor_server import Server
from wellhead.model.certificates import CertificateRecord, CertificateStatus
from wellhead.model.records import OrganizationId, TunnelId

NOW = datetime.now(UTC)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """An agent's certificate, with a day to live."""
    file = private.make_directory(tmp_path / "tunnels" / "my-agent") / "tls-chain.pem"
    private.write(file, self_signed("my-agent.localhost")[1].decode())
    return file


def record_of(chain: Path, status: CertificateStatus) -> dict[str, CertificateRecord]:
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
    return {
        fingerprint: CertificateRecord(
            "c", OrganizationId("o"), TunnelId("t"), "my-agent.localhost", "local", status, "1", fingerprint,
            NOW, NOW, NOW, 1.0, NOW,
        )
    }  # fmt: skip


def test_a_good_certificate_is_told_with_its_days(chain: Path) -> None:
    for known in ({}, record_of(chain, CertificateStatus.ISSUED)):
        found = check_certificate(chain, known, NOW)
        assert found.verdict is Verdict.OK and "my-agent: the certificate is good for 1.0" in found.found


def test_a_revoked_one_is_a_fault_and_an_expired_one_is_replaced(chain: Path) -> None:
    revoked = check_certificate(chain, record_of(chain, CertificateStatus.REVOKED), NOW)
    assert (
        revoked.verdict is Verdict.FAILED
        and "revoked" in revoked.found
        and str(chain.parent) in revoked.remedy
    )
    expired = check_certificate(chain, {}, NOW + timedelta(days=2))
    assert expired.verdict is Verdict.WARNING and "ended at" in expired.found


def test_a_file_that_cannot_be_read_is_named(chain: Path) -> None:
    chain.write_text("no certificate")
    found = check_certificate(chain, {}, NOW)
    assert found.verdict is Verdict.FAILED and str(chain) in found.found


async def test_without_a_server_the_files_are_looked_at_all_the_same(chain: Path, tmp_path: Path) -> None:
    async def looked(home: Path) -> list[Finding]:
        server = Server("http://127.0.0.1:1")
        return [finding async for finding in check_certificates(server, None, chains(home))]

    assert [finding.verdict for finding in await looked(tmp_path)] == [Verdict.SKIPPED, Verdict.OK]
    assert await looked(tmp_path / "nobody") == []
