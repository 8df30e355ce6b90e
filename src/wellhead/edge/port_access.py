"""Who may see a port of a sandbox, and what of its request is our business and no application's.

====================  ==========================================================================
public                everybody
an API key            decides alone, where one is shown: private takes keys of scope ``admin`` of
                      the sandbox's organization, team any of its live keys
a CORS preflight      everybody, and with nothing that says who asks: the application answers it,
                      where it runs, and of the answer they get what a browser reads, and no body
a link                who holds one. A browser that opens a page with it gets a cookie for it and
                      is sent on to the same address without it
that cookie           of a request that no page of somebody else makes (``Provenance.is_own``)
the path form         takes neither link nor cookie, a key alone
====================  ==========================================================================

Ours is taken out of every request, whatever comes of it. docs/explain/decisions/0022-who-may-see-a-port.md
says why it is so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.port_grant import EVERYBODY, Grant
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.links import LinkSigner, Pass
from wellhead.model.names import address_group, is_loopback
from wellhead.model.rates import Rate
from wellhead.model.sandboxes import SandboxStatus, SandboxView
from wellhead.model.visibility import Visibility
from wellhead.visitors import pages, port_pages
from wellhead.visitors.pages import Page
from wellhead.wire.port_request import (
    Provenance,
    Shown,
    asked_origin,
    may_show_ours,
    preflight_lines,
    read_shown,
)
from wellhead.wire.streams import StreamKind

SERVED: Final = frozenset((SandboxStatus.RUNNING, SandboxStatus.SNAPSHOTTING))  # whose ports answer
PLAIN_COOKIE: Final = "wellhead-port"
COOKIE: Final = "__Host-" + PLAIN_COOKIE  # over TLS: no sibling can set it


class Asked(NamedTuple):
    """A request for a port. ``block``: its field lines and the blank line, canonical as in an envelope."""

    view: SandboxView
    port: int
    kind: StreamKind
    method: bytes
    target: bytes
    block: bytes
    whole: bool  # nothing of it follows
    secure: bool  # it came over TLS
    peer: str  # the visitor's IP address
    path_form: bool = False  # it came to the name that all sandboxes share


class Allowed(NamedTuple):
    """What goes on of a request that may pass."""

    target: bytes
    block: bytes
    preflight: bool = False  # of somebody who may not see the port: its answer is for nobody to read
    grant: Grant = EVERYBODY


class PortAccessRules:
    """``links`` knows ours; ``failures``: of wrong keys, by network; ``now`` gives seconds since 1970."""

    def __init__(
        self,
        directory: HostDirectory,
        links: LinkSigner,
        failures: Rate,
        *,
        loopback_exempt: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._links = links
        self._failures = failures
        self._loopback_exempt = loopback_exempt
        self._now = now

    def passes(self, view: SandboxView, port: int, envelope: bytes) -> bool:
        """Whether a request goes on as it stands, by what it is asked for: most do, and are not judged."""
        return view.access.of(port) is Visibility.PUBLIC and not may_show_ours(envelope)

    def judge(self, asked: Asked) -> Allowed | Page:
        """What of the request goes on to the application, or the page that it is answered with."""
        shown = read_shown(asked.target, asked.block)
        allowed = Allowed(shown.target, shown.block)
        visibility = asked.view.access.of(asked.port)
        if visibility is Visibility.PUBLIC:
            return allowed
        if shown.key is not None:
            granted = self._granted(asked, shown.key, visibility)
            return allowed._replace(grant=granted) if isinstance(granted, Grant) else granted
        source = Provenance(asked.block, asked.view.id, secure=asked.secure)
        if asked.whole and source.is_preflight(asked.method):
            if asked.view.status not in SERVED:  # whoever it is resumes nothing, and learns nothing
                return port_pages.NO_KEY
            return Allowed(shown.target, preflight_lines(shown.block), preflight=True)
        allowed = allowed._replace(grant=Grant(epoch=asked.view.access.links_epoch))
        if asked.path_form:  # a cookie would be of a name that is everybody's
            return port_pages.KEY_ONLY
        if shown.link and (expires := self._expiry(asked, Pass.LINK, shown.link)):
            opens_page = asked.kind is StreamKind.HTTP and source.is_navigation(asked.method)
            return self._exchanged(asked, shown, expires) if opens_page else allowed
        cookies = self._cookies(asked, shown)
        if any(self._expiry(asked, Pass.COOKIE, cookie) for cookie in cookies):
            return allowed if source.is_own(asked.method) else port_pages.FOREIGN_PAGE
        return port_pages.LINK_OVER if shown.link or cookies else port_pages.NO_KEY

    def _granted(self, asked: Asked, secret: Secret, visibility: Visibility) -> Grant | Page:
        """What this key gives, or why it does not open the port."""
        group = address_group(asked.peer)
        counted = not (self._loopback_exempt and is_loopback(asked.peer))
        if counted and (wait := self._failures.wait(group)):
            return port_pages.WRONG_KEYS._replace(retry_seconds=int(wait) + 1)
        key = self._directory.key(secret)
        if key is None:
            if not self._directory.is_current():  # it may be told in a moment
                return port_pages.UNSURE
            if counted:
                self._failures.count(group)
            return port_pages.BAD_KEY
        if key.organization_id != asked.view.organization_id:
            return port_pages.FOREIGN_KEY
        admin = access.is_admin(key.scopes)
        if visibility is Visibility.PRIVATE and not admin:
            return port_pages.FOREIGN_KEY
        self._directory.used(key.id)
        return Grant(key.id, admin)

    def _expiry(self, asked: Asked, kind: Pass, token: str) -> int:
        """When a good token is over, in seconds since 1970; 0: it is none."""
        view = asked.view
        epoch = view.access.links_epoch
        found = self._links.expiry(token, kind, view.id, asked.port, epoch, self._now())
        return 0 if found is None else found[0]

    def _exchanged(self, asked: Asked, shown: Shown, expires: int) -> Page:
        """The way to the same page without the link, and a cookie for the rest of its life."""
        view = asked.view
        token = self._links.sign(Pass.COOKIE, view.id, asked.port, view.access.links_epoch, expires)
        lasts = max(1, int(expires - self._now()))
        cookie = f"{_cookie_name(asked)}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Lax"
        # Absolute: a target may begin with what a browser takes for another host.
        return port_pages.LINK_TAKEN._replace(
            location=pages.absolute(asked_origin(asked.block, secure=asked.secure), shown.target),
            fields=(
                ("Set-Cookie", cookie + "; Secure" if asked.secure else cookie),
                ("Referrer-Policy", "no-referrer"),
            ),
        )

    def _cookies(self, asked: Asked, shown: Shown) -> list[str]:
        name = _cookie_name(asked).encode("ascii")
        return [value.decode("latin-1") for its_name, value in shown.cookies if its_name == name]


def _cookie_name(asked: Asked) -> str:
    return COOKIE if asked.secure else PLAIN_COOKIE
