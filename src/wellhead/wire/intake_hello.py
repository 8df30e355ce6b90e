"""Hello of the HTTP/2 carrier: what the edge tells an agent about its session.

Source: docs/reference/h2-carrier.md, "Hello".
"""

from __future__ import annotations

import json
from typing import NamedTuple

from wellhead.errors import HelloError

MAX_POOL = 32  # slots that an agent parks
MAX_HELLO_ANSWER = 64 * 1024  # bytes
_MAX_URLS = 32
IDLE_SECONDS = 300.0  # where the edge does not say


class Ours(NamedTuple):
    """What an edge of ours says beyond that, in the member ``wellhead``.

    Where it is there, the edge takes a reply of unknown length, and a slot that is parked again before its
    envelope's body has ended.
    """

    session: str  # its id, for logs
    tunnel_id: str
    name: str  # of the tunnel
    public_urls: list[str]

    @classmethod
    def read(cls, value: object) -> Ours | None:
        """None for anything else than such an object."""
        if not isinstance(value, dict):
            return None
        texts = [value.get(name, "") for name in ("session", "tunnel_id", "name")]
        urls = value.get("public_urls", [])
        if not isinstance(urls, list) or len(urls) > _MAX_URLS:
            return None
        if not all(isinstance(text, str) and text.isprintable() for text in (*texts, *urls)):
            return None
        session, tunnel_id, name = texts
        return cls(session, tunnel_id, name, urls)


class Hello(NamedTuple):
    """The answer to a hello that the edge lets in."""

    owner_token: str
    pool: int  # slots that the agent shall park; 0: not told
    idle_seconds: float  # after which the edge may end a parked intake
    deadline_seconds: float | None  # for one request in the agent; None: not told
    ours: Ours | None = None

    def encode(self) -> bytes:
        """The JSON body."""
        members: dict[str, object] = {
            "owner_token": self.owner_token,
            "default_pool_size": self.pool,
            "intake_idle_seconds": self.idle_seconds,
        }
        if self.deadline_seconds is not None:
            members["response_deadline_seconds"] = self.deadline_seconds
        if self.ours is not None:
            members["wellhead"] = self.ours._asdict()
        return json.dumps(members, separators=(",", ":")).encode()

    @classmethod
    def read(cls, body: bytes) -> Hello:
        """Read an edge's answer. Only the token is needed: what else is absent or odd counts as not told.

        Raises:
            HelloError: not a JSON object, longer than MAX_HELLO_ANSWER, or without a token.
        """
        if len(body) > MAX_HELLO_ANSWER:
            raise HelloError(f"hello answer of {len(body)} bytes, at most {MAX_HELLO_ANSWER} allowed")
        try:
            members = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise HelloError("hello answer is not JSON") from error
        if not isinstance(members, dict):
            raise HelloError(f"hello answer is a JSON {type(members).__name__}, an object is expected")
        token = members.get("owner_token")
        if (
            not isinstance(token, str)
            or not token.isascii()
            or not token.isprintable()
            or " " in token
            or not token
        ):
            raise HelloError("hello answer without an owner_token that a header can carry")
        pool = members.get("default_pool_size")
        if isinstance(pool, bool) or not isinstance(pool, int):
            pool = 0
        idle = _seconds(members.get("intake_idle_seconds"))
        return cls(
            token,
            min(max(pool, 0), MAX_POOL),
            IDLE_SECONDS if idle is None else idle,
            _seconds(members.get("response_deadline_seconds")),
            Ours.read(members.get("wellhead")),
        )


def _seconds(value: object) -> float | None:
    """A positive length of time, None for anything else (NaN and infinity too, which JSON may hold here)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        return None
    return float(value)
