"""What the edge answers for a certificate authority, as the control plane asks it to.

The edge alone is reached at the names that we show to be ours, and no tenant ever sees such a question.
"""

from __future__ import annotations

from typing import Protocol


class Challenges(Protocol):
    """Each returns when the edge has it: who asks from then on is answered.

    Raises:
        LinkError: the edge does not hear.
    """

    async def put_http(self, hostname: str, token: str, answer: str) -> None:
        """Answer ``http://HOSTNAME/.well-known/acme-challenge/TOKEN`` with ``answer``.

        Source: RFC 8555 section 8.3.
        """

    async def put_alpn(self, hostname: str, certificate_pem: str, key_pem: str) -> None:
        """Show this certificate to whoever offers ``acme-tls/1`` alone for the hostname.

        Source: RFC 8737 section 3.
        """

    async def remove(self, hostname: str, token: str = "") -> None:
        """Forget the answer to ``token``; without one, the certificate for ``acme-tls/1``. Idempotent."""
