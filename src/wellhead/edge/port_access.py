"""Who may see a port of a sandbox, and what of its request is our business and no application's.

An API key in ``X-API-Key`` or as a bearer token is ours by its grammar: it is judged where the port is not
public, and never goes on. Any other value in those fields is the application's.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.edge.host_directory import HostDirectory
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.names import address_group, is_loopback
from wellhead.model.rates import Rate
from wellhead.model.sandboxes import SandboxView
from wellhead.model.visibility import Visibility
from wellhead.visitors import port_pages
from wellhead.visitors.pages import Page
from wellhead.wire.fields import CREDENTIALS, cut
from wellhead.wire.streams import StreamKind


class Asked(NamedTuple):
    """A request for a port. ``block``: its field lines and the blank line, canonical as in an envelope."""

    view: SandboxView
    port: int
    kind: StreamKind
    method: bytes
    target: bytes
    block: bytes
    secure: bool  # it came over TLS
    peer: str  # the visitor's IP address


class Allowed(NamedTuple):
    """What goes on of a request that may pass."""

    target: bytes
    block: bytes


class PortAccessRules:
    """``failures``: of wrong keys, by network."""

    def __init__(self, directory: HostDirectory, failures: Rate, *, loopback_exempt: bool) -> None:
        self._directory = directory
        self._failures = failures
        self._loopback_exempt = loopback_exempt

    def judge(self, asked: Asked) -> Allowed | Page:
        """What of the request goes on to the application, or the page that it is answered with."""
        fields, _ = cut(asked.block, CREDENTIALS)
        ours = {name: key for name, value in fields.items() if (key := _key(name, value)) is not None}
        block = cut(asked.block, CREDENTIALS, fields.keys() - ours.keys())[1] if ours else asked.block
        visibility = asked.view.access.of(asked.port)
        if visibility is not Visibility.PUBLIC:
            refusal = self._refusal(asked, next(iter(ours.values()), None), visibility)
            if refusal is not None:
                return refusal
        return Allowed(asked.target, block)

    def _refusal(self, asked: Asked, secret: Secret | None, visibility: Visibility) -> Page | None:
        group = address_group(asked.peer)
        counted = not (self._loopback_exempt and is_loopback(asked.peer))
        if counted and (wait := self._failures.wait(group)):
            return port_pages.WRONG_KEYS._replace(retry_seconds=int(wait) + 1)
        if secret is None:
            return port_pages.NO_KEY
        key = self._directory.key(secret)
        if key is None:
            if not self._directory.is_current():  # it may be told in a moment
                return port_pages.UNSURE
            if counted:
                self._failures.count(group)
            return port_pages.NO_KEY
        if key.organization_id != asked.view.organization_id:
            return port_pages.FOREIGN_KEY
        if visibility is Visibility.PRIVATE and not access.is_admin(key.scopes):
            return port_pages.FOREIGN_KEY
        self._directory.used(key.id)
        return None


def _key(name: bytes, value: bytes) -> Secret | None:
    """The key that a field shows, where it has the form of one of ours."""
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
    elif name not in (b"x-api-key", b"x_api_key"):
        return None
    secret = Secret(value.strip().decode("latin-1"))
    return secret if access.well_formed(secret, access.API_KEY) else None
