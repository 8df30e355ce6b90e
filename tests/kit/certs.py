"""Certificates, contexts and ClientHellos for tests, made at run time."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from pathlib import Path

from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ClientContext, client_context


def authority(directory: Path, *, days_ago: int = 0, contexts: int = 256) -> LocalAuthority:
    """A CA in a new folder of ``directory``, whose clock is ``days_ago`` behind."""
    return LocalAuthority(
        directory / f"ca-{days_ago}",
        contexts=contexts,
        clock=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago),
    )


def trusting(ca: LocalAuthority, alpn: Sequence[str] = ()) -> ClientContext:
    """A client's context that trusts this CA alone."""
    return client_context(ca_file=ca.ca_file, alpn=alpn)


def client_hello(
    name: str | None = "a.localhost", alpn: Sequence[str] = (), *, only: ssl.TLSVersion | None = None
) -> bytes:
    """The first bytes of a real client: one record with a ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if only is not None:
        context.minimum_version = context.maximum_version = only
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most ``size`` bytes."""
    body = hello[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)
