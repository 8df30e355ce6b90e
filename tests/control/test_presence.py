from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from wellhead.control.store.presence import PresenceWriter
from wellhead.errors import Unavailable
from wellhead.model.records import TunnelId

A, B = TunnelId("a"), TunnelId("b")


class Database:
    """Takes writes, after refusing the first few."""

    def __init__(self, refuses: int = 0, error: Exception | None = None) -> None:
        self.refuses = refuses
        self.error = error or Unavailable(503, "locked")
        self.written: list[list[TunnelId]] = []
        self.wrote = asyncio.Event()
        self.refused = asyncio.Event()

    async def write(self, changed: Collection[TunnelId]) -> None:
        if self.refuses:
            self.refuses -= 1
            self.refused.set()
            raise self.error
        self.written.append(list(changed))
        self.wrote.set()


async def test_changes_of_a_moment_are_one_write_and_a_flapping_tunnel_one_entry() -> None:
    database = Database()
    writer = PresenceWriter(database.write)
    for _ in range(1000):
        writer.note(A)
        writer.note(B)
    async with asyncio.timeout(1):
        await database.wrote.wait()
    await writer.close()
    assert database.written == [[A, B]]


async def test_closing_writes_what_is_waiting() -> None:
    database = Database()
    writer = PresenceWriter(database.write)
    writer.note(A)
    async with asyncio.timeout(1):
        await writer.close()
    assert database.written == [[A]]


async def test_a_refused_write_is_tried_again() -> None:
    database = Database(refuses=1)
    writer = PresenceWriter(database.write, join_seconds=0, retry_seconds=0)
    writer.note(A)
    async with asyncio.timeout(5):
        await database.wrote.wait()
    await writer.close()
    assert database.written == [[A]]


async def test_without_changes_nothing_is_written() -> None:
    database = Database()
    await PresenceWriter(database.write).close()
    assert database.written == []


async def test_a_bug_in_one_write_does_not_end_the_writing(caplog: pytest.LogCaptureFixture) -> None:
    database = Database(refuses=1, error=ZeroDivisionError())
    writer = PresenceWriter(database.write, join_seconds=0, retry_seconds=0)
    writer.note(A)
    async with asyncio.timeout(5):
        await database.refused.wait()
        writer.note(B)
        await database.wrote.wait()
    await writer.close()
    assert database.written == [[B]]
    assert [record.getMessage() for record in caplog.records] == ["presence not written tunnels=1"]
