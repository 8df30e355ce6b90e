"""Certificates through both clients: signed, listed, renewed, and refusals by their kind."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.client.test_client import Canned
from tests.kit.asgi import served
from tests.kit.csr import pem_for
from wellhead.client import AsyncClient, Client, Timeouts, certificate_calls, tunnel_calls
from wellhead.errors import (
    BadRequest,
    Conflict,
    NotFound,
    TunnelCSRStateConflict,
    TunnelStateConflict,
    TunnelTLSModeMismatch,
)
from wellhead.model.access import Secret
from wellhead.model.certificates import CertificateRecord, CertificateStatus
from wellhead.model.records import TlsMode, TunnelStatus
from wellhead.net.authority import LocalAuthority


async def test_a_certificates_life(control: tuple[int, Secret], authority: LocalAuthority) -> None:
    port, key = control
    async with AsyncClient(f"https://localhost:{port}", key, ca_file=authority.ca_file) as client:
        tunnel = (await client.tunnels.create("my-agent", tls_mode=TlsMode.PASSTHROUGH)).tunnel
        assert tunnel.status is TunnelStatus.AWAITING_CERT
        pem = pem_for(tunnel.public_host)
        signed = await client.tunnels.sign_csr(tunnel.id, pem)
        assert await client.tunnels.sign_csr(tunnel.id, pem) == signed
        tunnel = await client.tunnels.get(tunnel.id)
        assert tunnel.status is TunnelStatus.ACTIVE and tunnel.cert_pem == signed.cert_pem
        (certificate,) = await client.certs.list()
        assert certificate.fingerprint_sha256 == signed.cert_fingerprint_sha256
        assert certificate.renew_at == tunnel.cert_renew_at
        renewed = await client.certs.renew(certificate.id)
        assert renewed.renew_at < certificate.renew_at and renewed == await client.certs.get(certificate.id)
        assert await client.certs.list(tunnel_id="nonsense") == []
        await client.tunnels.delete(tunnel.id)
        await client.tunnels.force_delete(tunnel.id)
        (certificate,) = await client.certs.list(tunnel_id=tunnel.id)
        assert certificate.status is CertificateStatus.REVOKED


async def test_what_is_not_signed_is_refused_by_its_kind(
    control: tuple[int, Secret], authority: LocalAuthority
) -> None:
    port, key = control

    def ask() -> list[CertificateRecord]:
        with Client(f"https://localhost:{port}", key, ca_file=authority.ca_file) as client:
            tunnel = client.tunnels.create("my-agent", tls_mode=TlsMode.PASSTHROUGH).tunnel
            edge = client.tunnels.create("my-edge").tunnel
            with pytest.raises(BadRequest, match="csr_pem"):
                client.tunnels.sign_csr(tunnel.id, "no request")
            with pytest.raises(TunnelTLSModeMismatch):
                client.tunnels.sign_csr(edge.id, pem_for(edge.public_host))
            with pytest.raises(NotFound):
                client.tunnels.sign_csr("nonsense", pem_for("my-agent.localhost"))
            with pytest.raises(TunnelStateConflict):
                client.tunnels.restore(tunnel.id)
            client.tunnels.delete(tunnel.id)
            with pytest.raises(TunnelCSRStateConflict) as refused:
                client.tunnels.sign_csr(tunnel.id, pem_for(tunnel.public_host))
            assert isinstance(refused.value, TunnelStateConflict) and isinstance(refused.value, Conflict)
            with pytest.raises(NotFound, match="no such certificate"):
                client.certs.renew("nonsense")
            return client.certs.list()

    assert await asyncio.to_thread(ask) == []


class Late(Canned):
    """Busy at first; the second time it has what was asked for."""

    def __init__(self) -> None:
        super().__init__(JSONResponse({"detail": "still being made"}, 503, {"Retry-After": "1"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        self.answer = JSONResponse(
            {
                "cert_pem": "c\n",
                "chain_pem": "",
                "cert_fingerprint_sha256": "",
                "cert_expires_at": "2030-01-01T00:00:00Z",
            }
        )


async def test_a_request_to_be_signed_has_its_own_time_and_no_other_call_has() -> None:
    assert tunnel_calls.sign_csr("x", "pem").seconds == 180
    assert certificate_calls.list_certificates().seconds is tunnel_calls.create_tunnel("x").seconds is None
    server, once = Late(), Timeouts(retry_seconds=0)
    async with served(server) as port:
        async with AsyncClient(f"http://127.0.0.1:{port}", "k", timeouts=once) as client:
            assert (await client.tunnels.sign_csr("x", "pem")).cert_pem == "c\n"
    assert len(server.requests) == 2, "tried again, where other calls are not"
