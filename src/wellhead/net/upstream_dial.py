"""Connecting to an upstream: one attempt, foreign errors mapped.

Redirects, proxies and environment variables have no say here: an agent connects to what it was told
to and to nothing else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wellhead.errors import DialError, LinkError, TrustError
from wellhead.logs import Log
from wellhead.net import dialling, tls
from wellhead.net.upstream_address import UpstreamAddress, UpstreamHttp
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.streams import Reason

FIRST_PAUSE_SECONDS = 0.05  # between two dials of an upstream that refuses
LONGEST_PAUSE_SECONDS = 0.4

_log = Log("wellhead.agent")


class UpstreamContexts(NamedTuple):
    """What an ``https`` upstream is dialled with; both None for any other."""

    http1: ssl.SSLContext | None
    http2: ssl.SSLContext | None  # offers HTTP/2, and HTTP/1.1 where either will do; None: HTTP/1.1 only


def upstream_contexts(
    address: UpstreamAddress, *, ca_file: Path | None = None, verify: bool = True
) -> UpstreamContexts:
    """Raises:
    SettingsError: ``ca_file`` cannot be read or holds no certificate.
    """
    if not address.tls:
        return UpstreamContexts(None, None)
    http1 = tls.client_context(ca_file=ca_file, verify=verify, alpn=[tls.ALPN_HTTP])
    if not address.may_speak_h2:
        return UpstreamContexts(http1, None)
    alpn = [tls.ALPN_H2] if address.http is UpstreamHttp.HTTP2 else [tls.ALPN_H2, tls.ALPN_HTTP]
    return UpstreamContexts(http1, tls.client_context(ca_file=ca_file, verify=verify, alpn=alpn))


class AddressDialler:
    """Dials one address, again and again for a short time while nobody accepts there."""

    def __init__(self, address: UpstreamAddress, contexts: UpstreamContexts, limits: UpstreamLimits) -> None:
        self._address = address
        self._contexts = contexts
        self._limits = limits

    async def dial(self, protocol: asyncio.Protocol, http2: bool) -> Reason | None:
        """See ``Dial``."""
        loop, limits = asyncio.get_running_loop(), self._limits
        context = self._contexts.http2 if http2 else self._contexts.http1
        give_up = loop.time() + limits.dial_retry_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await connect(lambda: protocol, self._address, context, limits.dial_seconds)
                return None
            except LinkError as error:
                if isinstance(error, TrustError) or loop.time() + pause > give_up:
                    _log.info("upstream unreachable", upstream=str(self._address), error=str(error))
                    return Reason.UPSTREAM_UNREACHABLE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def connect(
    factory: Callable[[], asyncio.Protocol],
    address: UpstreamAddress,
    context: ssl.SSLContext | None,
    seconds: float,
) -> asyncio.BaseTransport:
    """Connect once; ``seconds`` is for the connection and again for a TLS handshake.

    Raises:
        DialError: nobody accepts, the name does not resolve, or the time passed.
        TrustError: the upstream's certificate is not trusted or not for this name.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.path:
            async with asyncio.timeout(seconds):
                transport, _ = await loop.create_unix_connection(factory, address.path)
            return transport
        sock = await dialling.dial(
            address.host,
            address.port,
            timeout_seconds=seconds,
            user_timeout_seconds=0,  # an upstream may be slow to read: the visitor decides
        )
        if context is None:
            transport, _ = await loop.create_connection(factory, sock=sock)
            return transport
        secured, _ = await tls.connect_tls(
            sock, context, factory, server_hostname=address.host, handshake_seconds=seconds
        )
        return secured
    except TimeoutError as error:
        raise DialError(f"upstream {address} did not accept within {seconds:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise TrustError(f"upstream {address}: {error.verify_message or error}") from error
    except OSError as error:
        raise DialError(f"upstream {address}: {(error.strerror or str(error)).lower()}") from error
