"""What certificate authorities are answered while they check that a name is ours.

Only what the control plane has put here is answered, only as long as it may be asked for, and never by a
tenant: whoever can answer for a name gets a certificate of it.

Source: RFC 8555 section 8.3 (HTTP-01), RFC 8737 (TLS-ALPN-01).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from wellhead.logs import Log
from wellhead.net.tls import ALPN_ACME, load_pem, server_context

LIFE_SECONDS: Final = 3600.0  # for which an answer is kept where nobody takes it back
PENDING: Final = 1000  # answers; beyond, the oldest is forgotten

_log = Log("wellhead.edge")


class _Answer(NamedTuple):
    until: float
    answer: bytes | ssl.SSLContext


class Challenges:
    """``clock`` gives seconds. Hostnames are lower case, without a dot at their end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[tuple[str, str], _Answer] = {}  # by hostname and token, oldest first

    def __len__(self) -> int:
        return len(self._answers)

    def put_http(self, hostname: str, token: str, answer: str) -> None:
        """Answer ``/.well-known/acme-challenge/{token}`` at a name."""
        self._put(hostname, token, answer.encode())

    def put_alpn(self, hostname: str, certificate_pem: str, key_pem: str) -> None:
        """Show a certificate to whoever offers ``acme-tls/1`` alone for a name."""
        context = server_context([ALPN_ACME])
        try:
            load_pem(context, (certificate_pem + key_pem).encode())
        except OSError as error:  # OpenSSL's among them; the feed that brought it goes on
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            _log.error("challenge certificate refused", name=hostname, reason=reason)
            return
        self._put(hostname, "", context)

    def remove(self, hostname: str, token: str) -> None:
        """Forget the answer to a token; "": the certificate. Idempotent."""
        self._answers.pop((hostname, token), None)

    def http(self, hostname: str, token: str) -> bytes | None:
        """The answer to a token at a name, None where nothing is to be proved."""
        found = self._find(hostname, token) if token else None
        return found if isinstance(found, bytes) else None

    def alpn(self, hostname: str) -> ssl.SSLContext | None:
        """The context that shows the certificate for ``acme-tls/1`` at a name."""
        found = self._find(hostname, "")
        return found if isinstance(found, ssl.SSLContext) else None

    def _put(self, hostname: str, token: str, answer: bytes | ssl.SSLContext) -> None:
        now = self._clock()
        self._answers.pop((hostname, token), None)
        for key in [key for key, kept in self._answers.items() if kept.until <= now]:
            del self._answers[key]
        if len(self._answers) >= PENDING:
            oldest, _ = next(iter(self._answers))
            _log.warning("too many challenges, the oldest is forgotten", name=oldest, most=PENDING)
            del self._answers[next(iter(self._answers))]
        self._answers[hostname, token] = _Answer(now + LIFE_SECONDS, answer)

    def _find(self, hostname: str, token: str) -> bytes | ssl.SSLContext | None:
        kept = self._answers.get((hostname, token))
        return kept.answer if kept is not None and self._clock() < kept.until else None


class Proved(asyncio.Protocol):
    """The handshake was the answer: nothing is said on a connection for ``acme-tls/1``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).close()
