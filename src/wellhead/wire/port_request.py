"""What a request for a sandbox's port shows of ours, the request without it, and whose page sent it. Pure.

Ours are, and no application is ever shown:

* API keys, by their grammar, in ``X-API-Key`` or ``Authorization`` (what else is there is the application's),
  also as the name or the password of ``Basic``, where they open nothing;
* the parameter ``wellhead_link`` of the target and of ``Referer``;
* cookies named ``wellhead-*`` (``wire.cookies``).

Source: Fetch Standard, "CORS-preflight fetch"; Fetch Metadata Request Headers, section 2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

from wellhead.model.access import API_KEY, CONNECT_SECRET, Secret, well_formed
from wellhead.model.links import PARAMETER
from wellhead.model.sandboxes import SandboxId
from wellhead.wire.cookies import without_ours
from wellhead.wire.fields import PROVENANCE, cut

_PARAMETER = PARAMETER.encode() + b"="
_API_KEY = API_KEY.encode() + b"_"
# One search of a head takes a fifth of the time of four.
_perhaps_ours = re.compile(rb"wellhead[-_]|whs?_").search
_basic = re.compile(rb"uthorization:[\t ]*+[Bb](?:asic|ASIC) ").search  # says it in its own letters
# A look-alike is for whoever reads the first (CGI, WSGI).
_credential = re.compile(rb"\r\n(authorization|x[-_]api[-_]key):([^\r]*+)", re.IGNORECASE)
_minted = re.compile(rb"whs?_[0-9A-Za-z]++").findall
_referer = re.compile(rb"(\r\nreferer:)([^\r]*+)", re.IGNORECASE)
_source = re.compile(rb"(https?://[^/?#]++)").match
_TOP_LEVEL = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}
# What a browser puts into a preflight, and what the edge says of it.
_preflight_line = re.compile(
    rb"(?:(?:host|origin|referer|user-agent|accept(?:-[^:\r]*+)?|access-control-request-[^:\r]*+|sec-[^:\r]*+"
    rb"|cache-control|pragma|dnt|priority|content-length|x-forwarded-[^:\r]*+|forwarded|x-request-id):[^\r]*+)?",
    re.IGNORECASE,
).fullmatch

# What a browser reads of the answer to one.
_preflight_answer = re.compile(rb"(?:access-control-[^:\r]*+|allow|date|vary):", re.IGNORECASE).match


class Shown(NamedTuple):
    """``target`` and ``block`` are those of the request without what is ours.

    ``key``: an API key, well formed and alone in its field. ``link``: the token of a link, "" without one.
    ``cookies``: names and values of ours.
    """

    target: bytes
    block: bytes
    key: Secret | None = None
    link: str = ""
    cookies: tuple[tuple[bytes, bytes], ...] = ()


def may_show_ours(head: bytes) -> bool:
    """False: nothing in a request's head, or in its field lines, is ours."""
    return _perhaps_ours(head) is not None or _basic(head) is not None


def read_shown(target: bytes, block: bytes) -> Shown:
    """``block``: the field lines of an envelope, Host first."""
    if not (may_show_ours(block) or may_show_ours(target)):  # fast path: nothing of ours
        return Shown(target, block)
    link, target = _without_link(target)
    if _PARAMETER in block:  # a page that was opened with one, where everybody may see it
        block = _referer.sub(lambda found: found[1] + _without_link(found[2])[1], block)
    key, block = _without_keys(block)
    kept = without_ours(block)
    return Shown(target, kept.block, key, link, tuple(kept.ours))


def _without_link(target: bytes) -> tuple[str, bytes]:
    """The first link's token, "" without one, and the target without any."""
    path, mark, query = target.partition(b"?")
    every = query.split(b"&")
    links = [each for each in every if each.startswith(_PARAMETER)]
    if not links:
        return "", target
    rest = b"&".join([each for each in every if not each.startswith(_PARAMETER)])
    return links[0][len(_PARAMETER) :].decode("latin-1"), path + mark + rest if rest else path


def _without_keys(block: bytes) -> tuple[Secret | None, bytes]:
    keys: dict[bytes, Secret | None] = {}  # by lower-case name of the field

    def line(found: re.Match[bytes]) -> bytes:
        name, value = found[1].lower(), found[2].strip(b" \t")
        scheme, _, rest = value.partition(b" ")
        said = _pair(rest) if scheme.lower() == b"basic" else value
        ours = [text for text in _minted(said) if _is_ours(text)]
        if not ours:
            return found[0]
        shown = rest.strip(b" ") if name == b"authorization" and scheme.lower() == b"bearer" else value
        # Several in fields of one name are nobody's.
        alone = shown == ours[0] and name not in keys and shown.startswith(_API_KEY)
        keys[name] = Secret(shown.decode("ascii")) if alone else None
        return b""

    block = _credential.sub(line, b"\r\n" + block)[2:]
    return keys.get(b"x-api-key") or keys.get(b"authorization"), block


def _pair(encoded: bytes) -> bytes:
    """What ``Basic`` says, b"" where it is nothing."""
    text = encoded.strip(b" \t=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""


def _is_ours(text: bytes) -> bool:
    kind = API_KEY if text.startswith(_API_KEY) else CONNECT_SECRET
    return well_formed(Secret(text.decode("ascii")), kind)


def asked_origin(block: bytes, *, secure: bool) -> str:
    """Whom a visitor asks, by its field lines, Host first: scheme and authority as it wrote it."""
    authority = block.partition(b"\r\n")[0].removeprefix(b"Host: ").decode("ascii")
    return f"{'https' if secure else 'http'}://{authority}"


class Provenance:
    """Whose page sends a request, as far as its browser says; a program that says nothing is nobody's page.

    ``sandbox``: whose port is asked for; ``secure``: over TLS.
    """

    def __init__(self, block: bytes, sandbox: SandboxId, *, secure: bool) -> None:
        self._fields: Mapping[bytes, bytes] = cut(block, PROVENANCE)[0]
        # The origins of its ports differ in one number, between these two.
        here = asked_origin(block, secure=secure).lower().encode("ascii")
        self._scheme, _, authority = here.partition(b"://")
        name = b"-" + sandbox.encode("ascii")
        self._name = name + authority.partition(name)[2]

    def is_preflight(self, method: bytes) -> bool:
        """Whether a browser asks what another request may carry; of one without a body."""
        asked = b"origin" in self._fields and b"access-control-request-method" in self._fields
        return asked and method == b"OPTIONS"

    def is_navigation(self, method: bytes) -> bool:
        """Whether somebody opens a page, in a browser that may be told to keep a cookie."""
        if method not in (b"GET", b"HEAD"):
            return False
        mode = self._fields.get(b"sec-fetch-mode")
        if mode is not None:
            return mode == b"navigate"
        return b"text/html" in self._fields.get(b"accept", b"").lower()  # no metadata without TLS

    def is_own(self, method: bytes) -> bool:
        """Whether a cookie may speak for this request: no page of somebody else makes its browser send it.

        Its own are pages of any port of the sandbox. Siblings under the same domain are somebody else, though
        they are one site with it. Anybody may have a browser open a page at its top level: that is a link.
        """
        fields = self._fields
        origin = fields.get(b"origin")
        if origin is not None and not self._is_ours(origin):
            return False
        if fields.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
            return True
        if origin is None:
            source = _source(fields.get(b"referer", b""))
            top = _TOP_LEVEL.items() <= fields.items() and method in (b"GET", b"HEAD")
            return top or (source is not None and self._is_ours(source[1]))
        return True

    def _is_ours(self, origin: bytes) -> bool:
        scheme, _, authority = origin.partition(b"://")
        port = authority.removesuffix(self._name)
        return (
            scheme == self._scheme
            and port != authority
            and port.isdigit()
            and len(port) <= 5
            and port[:1] != b"0"
        )


def preflight_lines(block: bytes) -> bytes:
    """The field lines of a preflight, less everything that a browser does not put into one."""
    return b"\r\n".join([line for line in block.split(b"\r\n") if _preflight_line(line)])


def preflight_answer(head: bytes) -> bytes:
    """A reply head, less everything that a browser does not read of the answer to a preflight; of no body.

    Whoever sent it may not see the port, and an application may answer every method with what it has.
    """
    if not head.endswith(b"\r\n\r\n"):
        return head  # it is malformed, which is for its reader to say
    first, *lines = head[:-4].split(b"\r\n")
    length = [] if first[9:12] in (b"204", b"304") else [b"Content-Length: 0"]
    return b"\r\n".join([first, *(line for line in lines if _preflight_answer(line)), *length, b"", b""])
