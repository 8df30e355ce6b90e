"""Secrets, keys and scopes.

A minted credential reads ``{type}_{handle}{body}{check}``:

* ``type``: ``wh`` an API key, ``whs`` a tunnel's connect secret;
* ``handle``: 8 characters, the public half by which its record is found (it is stored in clear);
* ``body``: 43 characters, 256 random bits, the secret half;
* ``check``: 6 characters, CRC-32 of all before it, so that a typing error is told from a revoked key.

The characters are ``0-9 A-Z a-z``. Only ``digest`` of the whole is stored.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Never

from wellhead.errors import InputError
from wellhead.model.text import shown

API_KEY = "wh"
CONNECT_SECRET = "whs"

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HANDLE = 8  # characters
_BODY = 43  # characters: 62^43 > 2^256
_CHECK = 6  # characters: 62^6 > 2^32
_LENGTH = _HANDLE + _BODY + _CHECK


class Secret:
    """A text that does not show itself: not by print, format, repr, pickle, copy or a debugger's vars.

    Equality takes the same time wherever two secrets differ. There is no hash: a secret is no dict key.
    """

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]  # the way to say "unhashable"

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: call it where it is sent or shown once, and nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(digest(self), digest(other))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __getstate__(self) -> Never:
        raise TypeError("a Secret cannot be pickled")

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret cannot be pickled")


def digest(secret: Secret) -> bytes:
    """SHA-256 of a secret, 32 bytes: what is stored and compared. Takes any text, well formed or not."""
    return hashlib.sha256(secret.reveal().encode("utf-8", "surrogatepass")).digest()


def matches(secret: Secret, stored: bytes | None) -> bool:
    """Whether a secret has this digest; None (no such record) costs the same and is never a match."""
    same = hmac.compare_digest(digest(secret), stored or _NOBODY)
    return same and stored is not None


_NOBODY = bytes(32)


def mint(prefix: str) -> Secret:
    """A fresh credential of 256 random bits. ``prefix`` is API_KEY or CONNECT_SECRET."""
    handle = "".join(secrets.choice(_ALPHABET) for _ in range(_HANDLE))
    text = f"{prefix}_{handle}{_base62(secrets.randbits(256), _BODY)}"
    return Secret(text + _check(text))


def handle_of(secret: Secret) -> str:
    """The public half of a credential, "" when the text has not the length of one."""
    _, _, rest = secret.reveal().partition("_")
    return rest[:_HANDLE] if len(rest) == _LENGTH else ""


def last4(secret: Secret) -> str:
    """The last four characters: part of the checksum, for people to tell keys apart."""
    return secret.reveal()[-4:]


def well_formed(secret: Secret, prefix: str) -> bool:
    """Whether this may be a credential of that type: right shape, right checksum."""
    text = secret.reveal()
    kind, _, rest = text.partition("_")
    shape = kind == prefix and len(rest) == _LENGTH and all(c in _ALPHABET for c in rest)
    return shape and _check(text[:-_CHECK]) == text[-_CHECK:]


def _check(text: str) -> str:
    return _base62(zlib.crc32(text.encode("ascii")), _CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


class ScopeKind(enum.Enum):
    ADMIN = "admin"  # everything of its organization
    TUNNEL = "tunnel"  # read one tunnel and connect to it
    HOST = "host"  # be this host


@dataclass(frozen=True, slots=True)
class Scope:
    """What a key may do: ``admin``, ``tunnel:{id}`` or ``host:{id}``."""

    kind: ScopeKind
    resource: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """
        Raises:
            InputError: not a scope.
        """
        if text == "admin":
            return cls(ScopeKind.ADMIN)
        kind, _, resource = text.partition(":")
        if kind in ("tunnel", "host") and resource:
            return cls(ScopeKind(kind), resource)
        raise InputError(f"{shown(text)} is not a scope, expected admin, tunnel:ID or host:ID")

    def __str__(self) -> str:
        return self.kind.value if self.resource is None else f"{self.kind.value}:{self.resource}"


ADMIN = Scope(ScopeKind.ADMIN)


def is_admin(scopes: Iterable[Scope]) -> bool:
    return ADMIN in scopes


def may_use_tunnel(scopes: Iterable[Scope], tunnel_id: str) -> bool:
    """Whether these scopes reach a tunnel of their own organization."""
    return any(scope == ADMIN or scope == Scope(ScopeKind.TUNNEL, tunnel_id) for scope in scopes)


def may_use_host(scopes: Iterable[Scope], host_id: str) -> bool:
    """Whether these scopes are those of the host itself: an admin key is no host's."""
    return Scope(ScopeKind.HOST, host_id) in scopes


def only_tunnel(scopes: Iterable[Scope]) -> str | None:
    """The id of the tunnel that these scopes reach, where they reach it and nothing else."""
    reached = set(scopes)
    scope = reached.pop() if len(reached) == 1 else None
    return scope.resource if scope is not None and scope.kind is ScopeKind.TUNNEL else None
