"""Writes of one loop turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.kit.transport import FakeTransport
from wellhead.net.writing import JOIN_BELOW, write_joined
from wellhead.wire.streams import Buffer

SMALL, LARGE = b"s" * 10, b"L" * JOIN_BELOW


class Noting(FakeTransport):
    """Keeps the pieces of each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[Any]] = []

    def writelines(self, pieces: Iterable[Any]) -> None:
        self.calls.append(list(pieces))


def written(pieces: list[Buffer]) -> list[Any]:
    transport = Noting()
    write_joined(transport, pieces)
    (call,) = transport.calls
    return call


def test_small_pieces_are_one() -> None:
    assert written([SMALL] * 5) == [SMALL * 5]
    assert written([SMALL]) == [SMALL]


def test_a_large_piece_is_not_copied_and_the_order_stays() -> None:
    call = written([SMALL, SMALL, LARGE, SMALL, LARGE, SMALL, SMALL])
    assert call == [SMALL * 2, LARGE, SMALL, LARGE, SMALL * 2]
    assert call[1] is LARGE
