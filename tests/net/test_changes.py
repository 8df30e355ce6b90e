"""Changes of this machine's network; that they are told is tested where there is a network to change."""

from __future__ import annotations

import asyncio
import socket

import pytest

from wellhead.net.changes import SETTLE_SECONDS, NetworkChanges, is_ours

BOTH_LOOPS = True


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        (("127.0.0.1", 4711), True),
        (("192.0.2.1", 4711), False),
        (("::1", 4711, 0, 0), True),
        (("2001:db8::1", 4711, 0, 0), False),
    ],
)
def test_an_address_is_ours_or_not(address: tuple[object, ...], ours: bool) -> None:
    assert is_ours(address) is ours


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="this system has no netlink")
async def test_a_flock_of_changes_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    monkeypatch.setattr("wellhead.net.changes._subscribed", lambda: near)
    told: list[float] = []
    loop = asyncio.get_running_loop()
    changes = NetworkChanges(lambda: told.append(loop.time()))
    for _ in range(3):
        far.send(b"an address")
    await asyncio.sleep(SETTLE_SECONDS * 2)
    assert len(told) == 1
    far.send(b"a route")
    await asyncio.sleep(SETTLE_SECONDS * 2)
    assert len(told) == 2
    far.send(b"one more")
    await asyncio.sleep(0.05)
    changes.close()
    await asyncio.sleep(SETTLE_SECONDS * 2)
    assert len(told) == 2 and near.fileno() == -1
    far.close()


async def test_where_nothing_is_told_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellhead.net.changes._subscribed", lambda: None)
    NetworkChanges(lambda: None).close()
