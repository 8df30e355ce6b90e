"""A zone of a test's own: an address of loopback whose port 443 is free, for SDKs that dial no other port."""

from __future__ import annotations

import functools
import random
import socket
from pathlib import Path

import pytest

from tests.kit.programs import Edge

PORT = 443


@functools.cache
def may_bind() -> bool:
    """Whether this user may listen there: root, or where the system lets everybody."""
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", PORT))
        except PermissionError:
            return False
        except OSError:
            pass  # somebody else listens, on that one address
    return True


NEEDED = [
    pytest.mark.system,
    pytest.mark.skipif(
        not may_bind(),
        reason="needs port 443: root, or `unshare -rn sh -c 'ip link set lo up; make test'`",
    ),
]


def zone() -> str:
    """An address of this machine on which nobody has the port."""
    for _ in range(100):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        with socket.socket() as sock:
            try:
                sock.bind((address, PORT))
            except OSError:
                continue
            return address
    raise AssertionError("100 addresses tried, none free")


def zoned(home: Path, **settings: object) -> Edge:
    """``wellhead up --zone`` with such an address, on the port that the SDKs dial."""
    address = zone()
    return Edge(home, "--zone", address, https=f"{address}:{PORT}", http=f"{address}:0", settings=settings)
