"""What the two ends tell each other about a session: hello, welcome, refused, goaway.

Hello, welcome and refused are UTF-8 JSON objects; a member that the reader does not know is ignored, so
newer peers may say more. GOAWAY is binary.

Source: docs/reference/wire.md, "Hello" and "Drain".
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, fields, replace

from wellhead.errors import FrameError, HelloError
from wellhead.wire.frames import MAX_ANSWER, MAX_HELLO, MAX_TEXT
from wellhead.wire.window import INITIAL_WINDOW, MAX_CREDIT, MIN_WINDOW

PROTOCOL = 1
ALPN = "wellhead/1"
OWN_CERTIFICATE = "own-certificate"  # a feature, see docs/reference/wire.md
_GOAWAY = struct.Struct("!II")
_MAX_WORD = 256  # characters of a short text
_MAX_MESSAGE = 4096  # characters of a refusal's message
_MAX_LIST = 32  # entries of a list


@dataclass(frozen=True, slots=True)
class Hello:
    """The dialler's first frame."""

    tunnel: str  # name or id
    secret: str = field(repr=False)  # connect secret or API key, in clear: TLS is around it
    agent: str = ""  # program and version, e.g. "wellhead-python/0.1.0"
    session_hint: str = ""  # random id of the agent process: its sessions are recognised by it
    lane: str = "default"
    window: int = INITIAL_WINDOW  # bytes the edge may send on a new stream
    features: list[str] = field(default_factory=list)
    protocol: int = PROTOCOL

    def encode(self) -> bytes:
        """The payload of HELLO.

        Raises:
            HelloError: longer than a HELLO may be.
        """
        return _encode(self, MAX_HELLO)

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """Raises HelloError: not such an object. The protocol number is for the caller to judge."""
        members = Members(payload, MAX_HELLO)
        return cls(
            protocol=members.integer("protocol", 1, 2**31 - 1),
            tunnel=members.text("tunnel"),
            secret=members.text("secret", 1024),
            agent=members.text("agent", default=""),
            session_hint=members.text("session_hint", default=""),
            lane=members.text("lane", default="default"),
            window=members.integer("window", MIN_WINDOW, MAX_CREDIT, INITIAL_WINDOW),
            features=members.texts("features"),
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """The acceptor's answer to a hello that it lets in."""

    session: str
    tunnel_id: str
    name: str
    public_urls: list[str] = field(default_factory=list)
    window: int = INITIAL_WINDOW  # bytes the agent may send on a new stream
    ping_seconds: float = 10.0
    drain_seconds: float = 30.0
    features: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        """The payload of WELCOME."""
        return _encode(self, MAX_ANSWER)

    @classmethod
    def decode(cls, payload: bytes) -> Welcome:
        """Raises HelloError: not such an object."""
        members = Members(payload, MAX_ANSWER)
        return cls(
            session=members.text("session"),
            tunnel_id=members.text("tunnel_id"),
            name=members.text("name"),
            public_urls=members.texts("public_urls"),
            window=members.integer("window", MIN_WINDOW, MAX_CREDIT, INITIAL_WINDOW),
            ping_seconds=members.number("ping_seconds", 0.05, 3600.0, 10.0),
            drain_seconds=members.number("drain_seconds", 0.0, 86400.0, 30.0),
            features=members.texts("features"),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """The acceptor's answer to a hello that it does not let in; the connection ends after it."""

    code: str  # as in wellhead.errors
    message: str
    final: bool = True  # trying again will not help
    retry_after_ms: int = 0  # wait at least this long, where not final

    def encode(self) -> bytes:
        """The payload of REFUSED; of the message, what the peer may not read is left out."""
        message = "".join(c for c in self.message if c.isprintable())[:_MAX_MESSAGE]
        return _encode(replace(self, message=message), MAX_ANSWER)

    @classmethod
    def decode(cls, payload: bytes) -> Refused:
        """Raises HelloError: not such an object."""
        members = Members(payload, MAX_ANSWER)
        return cls(
            code=members.text("code"),
            message=members.text("message", _MAX_MESSAGE, default=""),
            final=members.flag("final", True),
            retry_after_ms=members.integer("retry_after_ms", 0, 2**32 - 1, 0),
        )


@dataclass(frozen=True, slots=True)
class GoAway:
    """The sender opens no new streams and wants none; what runs may finish."""

    reason: int
    retry_after_ms: int = 0
    text: str = ""

    def encode(self) -> bytes:
        """The payload of GOAWAY; a text that is too long is cut at a character."""
        text = self.text.encode("utf-8", "replace")
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT].decode("utf-8", "ignore").encode()
        return _GOAWAY.pack(self.reason, self.retry_after_ms) + text

    @classmethod
    def decode(cls, payload: bytes) -> GoAway:
        """Raises FrameError: too short or too long. Bytes that are not UTF-8 are replaced."""
        if not _GOAWAY.size <= len(payload) <= _GOAWAY.size + MAX_TEXT:
            raise FrameError(
                f"GOAWAY payload of {len(payload)} bytes, {_GOAWAY.size} to {_GOAWAY.size + MAX_TEXT} allowed"
            )
        reason, retry_after_ms = _GOAWAY.unpack_from(payload)
        return cls(reason, retry_after_ms, payload[_GOAWAY.size :].decode("utf-8", "replace"))


def _encode(message: Hello | Welcome | Refused, limit: int) -> bytes:
    # Not ``asdict``, which copies every list and looks into every text.
    return encode_members({member.name: getattr(message, member.name) for member in fields(message)}, limit)


def encode_members(members: dict[str, object], limit: int) -> bytes:
    """A JSON object without blanks.

    Raises:
        HelloError: longer than ``limit`` bytes.
    """
    payload = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    if len(payload) > limit:
        raise HelloError(f"message of {len(payload)} bytes, at most {limit} allowed")
    return payload


class Members:
    """A JSON object whose members are read with their type and range checked.

    Raises:
        HelloError: not such an object, or longer than ``limit`` bytes; of each method, a member out of range.
    """

    __slots__ = ("_members",)

    def __init__(self, payload: bytes, limit: int) -> None:
        if len(payload) > limit:
            raise HelloError(f"message of {len(payload)} bytes, at most {limit} allowed")
        try:
            members = json.loads(payload.decode())
        except (ValueError, RecursionError) as error:
            raise HelloError("message is not UTF-8 JSON") from error
        if not isinstance(members, dict):
            raise HelloError(f"message is a JSON {type(members).__name__}, an object is expected")
        self._members: dict[str, object] = members

    def text(self, name: str, limit: int = _MAX_WORD, default: str | None = None) -> str:
        value = self._members.get(name, default)
        if not isinstance(value, str):
            raise HelloError(f"{name} must be text, not {type(value).__name__}")
        if len(value) > limit:
            raise HelloError(f"{name} of {len(value)} characters, at most {limit} allowed")
        if not value.isprintable():  # also what cannot be written back: lone surrogates
            raise HelloError(f"{name} holds control characters")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._members.get(name, [])
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise HelloError(f"{name} must be a list of texts")
        if len(value) > _MAX_LIST:
            raise HelloError(f"{name} of {len(value)} entries, at most {_MAX_LIST} allowed")
        for entry in value:
            if len(entry) > _MAX_WORD or not entry.isprintable():
                raise HelloError(f"an entry of {name} is too long or holds control characters")
        return value

    def integer(self, name: str, least: int, most: int, default: int | None = None) -> int:
        value = self._members.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise HelloError(f"{name} must be an integer, not {type(value).__name__}")
        if not least <= value <= most:
            raise HelloError(f"{name} of {value}, {least} to {most} allowed")
        return value

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self._members.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise HelloError(f"{name} must be a number, not {type(value).__name__}")
        if not least <= value <= most:  # also false for NaN
            raise HelloError(f"{name} of {value}, {least} to {most} allowed")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._members.get(name, default)
        if not isinstance(value, bool):
            raise HelloError(f"{name} must be true or false, not {type(value).__name__}")
        return value
