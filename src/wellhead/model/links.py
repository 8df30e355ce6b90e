"""Signed links: who holds one may see a port of a sandbox, or all of them, until it expires.

A token says what it is good for and is signed by a key that only this server has; nothing is stored of it. It
is void at once where the sandbox's epoch is another::

    base64url( version (1) | kind (1) | port (2, 0: every port) | expires (8, seconds since 1970) | tag (16) )
    tag = HMAC-SHA-256(key, version | kind | port | expires | epoch (8) | sandbox), its first half
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import struct

from wellhead.model.sandboxes import SandboxId

PARAMETER = "wellhead_link"  # of the query of the URL that holds one
KEY_BYTES = 32
TOKEN_MAX = 64  # characters
_VERSION = 1
_TAG_BYTES = 16
_facts = struct.Struct(">BBHQ")
_epoch = struct.Struct(">Q")


class Pass(enum.IntEnum):
    """What a token is shown as: one kind is never taken for the other."""

    LINK = 1  # in a URL: it may be passed on
    COOKIE = 2  # in the cookie that a link was exchanged for


class LinkSigner:
    """``key``: KEY_BYTES random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, kind: Pass, sandbox: SandboxId, port: int, epoch: int, expires: int) -> str:
        """A token. ``port`` 0 is every port of the sandbox, ``expires`` in seconds since 1970."""
        facts = _facts.pack(_VERSION, kind, port, expires)
        return _text(facts + self._tag(facts, sandbox, epoch))

    def expiry(
        self, token: str, kind: Pass, sandbox: SandboxId, port: int, epoch: int, now: float
    ) -> tuple[int, int] | None:
        """Of a good token: when it expires, and the port that it names (0: every one). Else None."""
        if len(token) > TOKEN_MAX:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != _facts.size + _TAG_BYTES:
            return None
        facts, tag = raw[: _facts.size], raw[_facts.size :]
        if not hmac.compare_digest(tag, self._tag(facts, sandbox, epoch)):
            return None
        version, its_kind, its_port, expires = _facts.unpack(facts)
        if version != _VERSION or its_kind != kind or its_port not in (0, port) or expires <= now:
            return None
        return expires, its_port

    def _tag(self, facts: bytes, sandbox: SandboxId, epoch: int) -> bytes:
        told = facts + _epoch.pack(epoch) + sandbox.encode("ascii")
        return hmac.digest(self._key, told, hashlib.sha256)[:_TAG_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
