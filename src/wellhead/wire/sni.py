"""The ClientHello, read without answering it: which name is wanted, and which protocols are offered.

::

    record     0x16  0x03 0x0X  length(2)  fragment ...     one hello may span several records
    handshake  0x01  length(3)  version(2)  random(32)  session<0..32>  ciphers<2..>  compressions<1..>
               extensions<0..>:  type(2) length(2) ...      0: server_name, 16: ALPN

Nothing is consumed: whoever peeked hands the same bytes to TLS, or to an agent that ends it.
Source: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from wellhead.errors import ClientHelloError

MAX_HELLO = 65536  # bytes of the handshake message

UNEXPECTED_MESSAGE = 10
RECORD_OVERFLOW = 22
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
PROTOCOL_VERSION = 70
INTERNAL_ERROR = 80
UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120

_RECORD_HEADER = 5  # bytes
_MAX_FRAGMENT = 16384  # bytes of plaintext in one record
_MIN_HELLO = 41  # bytes: version, random, empty session, one cipher, one compression
_SERVER_NAME, _ALPN = 0, 16
_name = re.compile(rb"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.|\Z)){1,127}").fullmatch


class ClientHello(NamedTuple):
    """What a ClientHello asks for."""

    server_name: str | None  # lower case, without one trailing dot; None where none was sent
    alpn: tuple[bytes, ...]  # protocols in the client's order; empty where none were sent


@dataclass(frozen=True, slots=True)
class Need:
    """The hello is not complete."""

    count: int  # at least so many more bytes


def read_client_hello(data: bytes) -> ClientHello | Need:
    """Read the ClientHello at the beginning of a connection.

    ``data`` is everything that came so far; the bytes behind the hello are not looked at.

    Raises:
        ClientHelloError: not TLS, malformed, longer than 64 KiB, or a name that is none.
    """
    message = _first_record(data) or _join_records(data)
    return message if isinstance(message, Need) else _read_message(message)


def _first_record(data: bytes) -> bytes | None:
    """Fast path: the message when the first record holds all of it."""
    if len(data) < 9 or data[0] != 22 or data[1] != 3:
        return None
    record = int.from_bytes(data[3:5], "big")
    length = int.from_bytes(data[6:9], "big")
    if data[5] != 1 or length + 4 > record or record > _MAX_FRAGMENT or len(data) < 9 + length:
        return None
    return data[9 : 9 + length]


def _join_records(data: bytes) -> bytes | Need:
    """The handshake message, collected from as many records as it takes."""
    joined = bytearray()
    at = 0
    while True:
        header = data[at : at + _RECORD_HEADER]
        _check_record(header)
        if len(header) < _RECORD_HEADER:
            return Need(_RECORD_HEADER - len(header))
        at += _RECORD_HEADER
        end = at + int.from_bytes(header[3:5], "big")
        joined += data[at:end]
        length = _message_length(joined)
        if length is not None and len(joined) >= length:
            return bytes(joined[4:length])
        if end > len(data):
            return Need(end - len(data) if length is None else min(end - len(data), length - len(joined)))
        at = end


def _check_record(header: bytes) -> None:
    if header and header[0] != 22:
        raise ClientHelloError(UNEXPECTED_MESSAGE, "not-tls")
    if len(header) > 1 and header[1] != 3:
        raise ClientHelloError(PROTOCOL_VERSION, "not-tls")
    if len(header) == _RECORD_HEADER:
        fragment = int.from_bytes(header[3:5], "big")
        if fragment > _MAX_FRAGMENT:
            raise ClientHelloError(
                RECORD_OVERFLOW, "record-too-long", f"{fragment} bytes, at most {_MAX_FRAGMENT} allowed"
            )
        if not fragment:
            # Forbidden for handshakes, and a way to make us read for ever (RFC 8446 section 5.1).
            raise ClientHelloError(UNEXPECTED_MESSAGE, "empty-record")


def _message_length(message: bytearray) -> int | None:
    """Bytes of the handshake message with its header, as soon as it is told."""
    if message and message[0] != 1:
        raise ClientHelloError(UNEXPECTED_MESSAGE, "not-client-hello")
    if len(message) < 4:
        return None
    length = int.from_bytes(message[1:4], "big")
    if length > MAX_HELLO:
        raise ClientHelloError(
            ILLEGAL_PARAMETER, "hello-too-long", f"{length} bytes, at most {MAX_HELLO} allowed"
        )
    if length < _MIN_HELLO:
        raise ClientHelloError(DECODE_ERROR, "malformed-hello")
    return length + 4


def _read_message(message: bytes) -> ClientHello:
    if message[:1] != b"\x03":
        raise ClientHelloError(PROTOCOL_VERSION, "version")
    at = 34  # version, random
    _, at = _vector(message, at, 1, 0, 32)  # session
    _, at = _vector(message, at, 2, 2)  # ciphers
    _, at = _vector(message, at, 1, 1)  # compressions
    if at == len(message):
        return ClientHello(None, ())
    extensions, at = _vector(message, at, 2)
    if at != len(message):
        raise _malformed()
    return _read_extensions(extensions)


def _read_extensions(extensions: bytes) -> ClientHello:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        body, at = _vector(extensions, at + 2, 2)
        if kind in found:
            raise ClientHelloError(ILLEGAL_PARAMETER, "repeated-extension")
        found[kind] = body
    return ClientHello(
        _read_server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None,
        _read_alpn(found[_ALPN]) if _ALPN in found else (),
    )


def _read_server_name(body: bytes) -> str:
    names, at = _vector(body, 0, 2, 1)
    if at != len(body):
        raise _malformed()
    if names[0] != 0:
        raise ClientHelloError(ILLEGAL_PARAMETER, "server-name")
    name, at = _vector(names, 1, 2, 1)
    if at != len(names):
        # Only one name of a kind may be sent, and there is only one kind.
        raise ClientHelloError(ILLEGAL_PARAMETER, "two-names")
    lower = name.lower()
    if len(lower) > 254 or not _name(lower):
        raise ClientHelloError(ILLEGAL_PARAMETER, "server-name")
    if _is_address(lower):
        raise ClientHelloError(UNRECOGNIZED_NAME, "address-as-name")
    return lower.decode("ascii").removesuffix(".")


def _is_address(name: bytes) -> bool:
    """RFC 6066 permits DNS names only; IPv6 fails by its colons already."""
    try:
        ipaddress.IPv4Address(name.decode("ascii").removesuffix("."))
    except ValueError:
        return False
    return True


def _read_alpn(body: bytes) -> tuple[bytes, ...]:
    names, at = _vector(body, 0, 2, 2)
    if at != len(body):
        raise _malformed()
    protocols = []
    at = 0
    while at < len(names):
        protocol, at = _vector(names, at, 1, 1)
        protocols.append(protocol)
    return tuple(protocols)


def _vector(data: bytes, at: int, width: int, least: int = 0, most: int = MAX_HELLO) -> tuple[bytes, int]:
    """A vector with a length of ``width`` bytes in front, and the index behind it."""
    start = at + width
    length = int.from_bytes(data[at:start], "big")
    end = start + length
    if start > len(data) or end > len(data) or not least <= length <= most:
        raise _malformed()
    return data[start:end], end


def _malformed() -> ClientHelloError:
    return ClientHelloError(DECODE_ERROR, "malformed-hello")


def alert(description: int) -> bytes:
    """A fatal alert record, as it stands before any key is agreed."""
    return bytes((21, 3, 3, 0, 2, 2, description))
