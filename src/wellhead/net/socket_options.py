"""Options of a TCP connection, and what the kernel tells of it."""

from __future__ import annotations

import asyncio
import asyncio.trsock
import contextlib
import socket
import struct
import sys
from typing import Final

if sys.platform == "linux":
    import fcntl

USER_TIMEOUT_SECONDS: Final = 15.0
KEEPALIVE_SECONDS: Final = 60
# Unsent bytes that the kernel takes from us. What waits there can no longer be overtaken: with 16 KiB, on a
# link of 20 MB/s, a keystroke beside four downloads took 42 ms instead of 216 ms without a bound.
NOTSENT_LOWAT_BYTES: Final = 128 * 1024
CARRIER_LOWAT_BYTES: Final = 16 * 1024

_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all
_SIOCOUTQNSD: Final = 0x894B
_SIOCOUTQ: Final = 0x5411


def tune(
    sock: socket.socket | asyncio.trsock.TransportSocket,
    *,
    user_timeout_seconds: float = USER_TIMEOUT_SECONDS,
    notsent_lowat_bytes: int = NOTSENT_LOWAT_BYTES,
) -> None:
    """Set a TCP connection's options; on a socket of another kind (unix) it does nothing.

    ``user_timeout_seconds`` is how long bytes may stay unacknowledged *or unread*: Linux ends a
    connection whose peer announces no window for so long as well. So it must be longer than a slow
    reader is given; the default is for carriers, whose readers never wait.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # the peer may be gone already: the first read will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
            ("TCP_KEEPINTVL", 15),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", int(user_timeout_seconds * 1000)),
            ("TCP_NOTSENT_LOWAT", notsent_lowat_bytes),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the end of a connection be an RST, with which the kernel forgets what the peer has not read.

    Else it goes on to hold it for a peer that takes a few bytes now and then, for as long as that likes.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the peer may be gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def unsent(transport: asyncio.BaseTransport) -> int:
    """Bytes that the kernel has of a connection and has not sent yet; 0 where it does not tell.

    Source: linux/sockios.h, SIOCOUTQNSD
    """
    return _asked(transport, _SIOCOUTQNSD) or 0


def unacknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the peer's kernel has not acknowledged; None where ours does not tell.

    Source: tcp(7), SIOCOUTQ
    """
    return _asked(transport, _SIOCOUTQ)


def _asked(transport: asyncio.BaseTransport, question: int) -> int | None:
    sock = transport.get_extra_info("socket")
    if sock is None or sys.platform != "linux":
        return None
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), question, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed
        return None
