"""The mask of RFC 6455, without a Python loop over bytes.

Two ways, as measured (CPython 3.11): as one large number up to about a kilobyte, above it as four
interleaved strings of bytes, each translated by a table: 1 ns a byte.
"""

from __future__ import annotations

from functools import lru_cache

from wellhead.wire.streams import Buffer

NO_MASK = bytes(4)
"""A key that changes nothing: masking hides bytes from proxies that read along, and TLS does that here."""

_LONG = 1024  # bytes from which on translating is faster


@lru_cache(maxsize=256)
def _table(key: int) -> bytes:
    return bytes(byte ^ key for byte in range(256))


def masked(data: Buffer, mask: bytes) -> Buffer:
    """``data`` with a mask of four bytes put on, or taken off."""
    if mask == NO_MASK:
        return data
    size = len(data)
    if size < _LONG:
        key = (mask * (size + 3 >> 2))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
    text = bytes(data)
    out = bytearray(size)
    for at in range(4):
        out[at::4] = text[at::4].translate(_table(mask[at]))
    return bytes(out)
