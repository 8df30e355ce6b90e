"""The mask of RFC 6455."""

from __future__ import annotations

from wellhead.wire.streams import Buffer

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without its native part
    from websockets.utils import apply_mask

NO_MASK = bytes(4)
"""A key that changes nothing: masking hides bytes from proxies that read along, and TLS does that here."""


def masked(data: Buffer, mask: bytes) -> Buffer:
    """``data`` with a mask of four bytes put on, or taken off."""
    return data if mask == NO_MASK else apply_mask(data, mask)
