"""What an agent asks the control plane about its tunnel's certificate."""

from __future__ import annotations

from wellhead.agent.renewal import Standing
from wellhead.client import AsyncClient
from wellhead.model.certificates import CertificateStatus, SignedCertificate
from wellhead.model.records import TunnelId
from wellhead.profile import Connection


class Issuing:
    """Each call is a connection of its own: months lie between them."""

    def __init__(self, server: Connection, tunnel_id: TunnelId) -> None:
        self._server = server
        self._tunnel = str(tunnel_id)

    async def sign(self, csr_pem: str) -> SignedCertificate:
        """
        Raises:
            ApiError: the server does not sign it.
            LinkError: it cannot be reached.
        """
        client = self._client()
        try:
            return await client.tunnels.sign_csr(self._tunnel, csr_pem)
        finally:
            await client.aclose()

    async def look(self, fingerprint: str) -> Standing:
        """
        Raises:
            ApiError: the server does not say.
            LinkError: it cannot be reached.
        """
        client = self._client()
        try:
            for record in reversed(await client.certs.list(tunnel_id=self._tunnel)):
                if record.fingerprint_sha256 == fingerprint:
                    return Standing(record.renew_at, record.status is CertificateStatus.REVOKED)
            return Standing()
        finally:
            await client.aclose()

    def _client(self) -> AsyncClient:
        server = self._server
        return AsyncClient(server.url, server.api_key, ca_file=server.ca_file)
