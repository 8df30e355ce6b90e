"""The unmodified ``inkbox`` 0.3.0 SDK has certificates signed by our control plane."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import inkbox
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from inkbox.tunnels.client._cert import build_csr, cert_needs_sign, load_or_create_keypair, write_cert_chain
from inkbox.tunnels.exceptions import TunnelCSRStateConflict, TunnelTLSModeMismatch
from inkbox.tunnels.types import TLSMode, TunnelStatus

from tests.kit.programs import Edge

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("inkbox"), settings={"csr_per_tunnel_per_hour": 2}) as edge:
        yield edge


@pytest.fixture
def sdk(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[inkbox.Inkbox]:
    monkeypatch.setenv("SSL_CERT_FILE", str(edge.ca))
    with inkbox.Inkbox(edge.key, base_url=f"https://localhost:{edge.https}") as sdk:
        yield sdk


def test_a_passthrough_tunnels_certificate_is_signed_and_kept(
    sdk: inkbox.Inkbox, edge: Edge, tmp_path: Path
) -> None:
    tunnel = sdk.tunnels.create(tunnel_name="my-agent", tls_mode=TLSMode.PASSTHROUGH).tunnel
    assert tunnel.status is TunnelStatus.AWAITING_CERT and tunnel.public_host == "my-agent.localhost"
    key = load_or_create_keypair(tmp_path)
    csr = build_csr(key, tunnel.public_host)
    signed = sdk.tunnels.sign_csr(tunnel.id, csr_pem=csr)
    assert sdk.tunnels.sign_csr(tunnel.id, csr_pem=csr) == signed
    write_cert_chain(tmp_path, signed.cert_pem, signed.chain_pem)
    assert not cert_needs_sign(tmp_path, key)
    leaf = x509.load_pem_x509_certificate(signed.cert_pem.encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(edge.ca.read_bytes()))
    assert signed.cert_expires_at == leaf.not_valid_after_utc

    tunnel = sdk.tunnels.get(tunnel.id)
    assert tunnel.status is TunnelStatus.ACTIVE
    assert tunnel.cert_fingerprint_sha256 == signed.cert_fingerprint_sha256
    sdk.tunnels.sign_csr(tunnel.id, csr_pem=build_csr(key, tunnel.public_host))
    with pytest.raises(inkbox.InkboxAPIError) as refused:
        sdk.tunnels.sign_csr(tunnel.id, csr_pem=build_csr(key, tunnel.public_host))
    assert refused.value.status_code == 429

    sdk.tunnels.delete(tunnel.id)
    with pytest.raises(TunnelCSRStateConflict):
        sdk.tunnels.sign_csr(tunnel.id, csr_pem=csr)
    assert sdk.tunnels.restore(tunnel.id).status is TunnelStatus.ACTIVE


def test_what_is_not_signed_is_told_by_the_sdks_own_exceptions(sdk: inkbox.Inkbox) -> None:
    csr = build_csr(ec.generate_private_key(ec.SECP256R1()), "of-the-edge.localhost")
    tunnel = sdk.tunnels.create(tunnel_name="of-the-edge", tls_mode=TLSMode.EDGE).tunnel
    with pytest.raises(TunnelTLSModeMismatch):
        sdk.tunnels.sign_csr(tunnel.id, csr_pem=csr)
    other = sdk.tunnels.create(tunnel_name="for-others", tls_mode=TLSMode.PASSTHROUGH).tunnel
    for asked, pem, status in (
        (other.id, csr, 400),
        (other.id, "no request", 400),
        (uuid.uuid4(), csr, 404),
    ):
        with pytest.raises(inkbox.InkboxAPIError) as refused:
            sdk.tunnels.sign_csr(asked, csr_pem=pem)
        assert refused.value.status_code == status
