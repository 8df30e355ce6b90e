"""A control plane's application over a store, with an authority of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import httpx
from fastapi import FastAPI

from wellhead.control.app import build
from wellhead.control.certificates import ServerNames
from wellhead.control.fleet import Fleet
from wellhead.control.issuing import Issuer
from wellhead.control.local_issuer import LocalIssuer, Revocations
from wellhead.control.signing import Signing, SigningTerms
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.links import KEY_BYTES, LinkSigner
from wellhead.model.names import Public
from wellhead.net.authority import LocalAuthority
from wellhead.settings import ServerSettings

LINKS_KEY = bytes(KEY_BYTES)


def memory_authority() -> LocalAuthority:
    """A CA whose files are gone: it needs them at its start only."""
    with tempfile.TemporaryDirectory() as directory:
        return LocalAuthority(Path(directory) / "authority")


def signing_of(store: Store, public: Public, settings: ServerSettings, issuer: Issuer) -> Signing:
    return Signing(store, issuer, public, SigningTerms.of(settings, issuer))


def built(
    store: Store,
    public: Public,
    settings: ServerSettings,
    settle: Callable[[], Awaitable[None]] | None = None,
    *,
    issuer: Issuer | None = None,
    server_names: ServerNames | None = None,
    fleet: Fleet | None = None,
) -> FastAPI:
    """The application; its issuer is a local one where none is given."""
    authority = memory_authority()
    issuer = issuer or LocalIssuer(authority, timedelta(days=settings.local_certificate_days), store.clock)
    signing = signing_of(store, public, settings, issuer)
    revocations = Revocations(authority, store.certificates, store.clock)
    signer = LinkSigner(LINKS_KEY)
    return build(store, public, settings, signing, revocations, signer, settle, server_names, fleet)


def caller(app: FastAPI, key: Secret) -> httpx.AsyncClient:
    """Who asks at ``/api/v1`` with a key."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://control/api/v1",
        headers={"X-API-Key": key.reveal()},
    )
