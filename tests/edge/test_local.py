"""The edge's own metrics, opened as a stream like everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wellhead.edge.directory import TunnelView
from wellhead.edge.local import Scrapes
from wellhead.edge.metrics import Metrics
from wellhead.model.access import Secret
from wellhead.model.records import Admission, KeyId, TunnelId
from wellhead.wire.streams import Buffer, HeadKind, Reason, StreamKind


class Keys:
    """A directory that knows one admin key."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.held = asyncio.Event()
        self.held.set()

    def tunnel(self, name: str) -> TunnelView | None:
        raise NotImplementedError

    def named(self, name: str) -> TunnelView | None:
        return self.tunnel(name)

    def is_current(self) -> bool:
        return True

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        raise NotImplementedError

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """No key is ever revoked."""

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        raise NotImplementedError

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        raise NotImplementedError

    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None:
        raise NotImplementedError

    async def is_admin(self, key: Secret) -> bool:
        await self.held.wait()
        if self.error is not None:
            raise self.error
        return key.reveal() == "wh_admin"


class Answer:
    """The scraper's sink."""

    def __init__(self) -> None:
        self.head = self.body = b""
        self.resets: list[int] = []
        self.done = asyncio.Event()

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        assert kind is HeadKind.REPLY and end
        self.head, self.body = head, bytes(data)
        self.done.set()

    def on_data(self, data: Buffer, end: bool) -> None:
        raise AssertionError("in one piece")

    def on_reset(self, reason: int) -> None:
        self.resets.append(reason)
        self.done.set()

    def on_writable(self) -> None:
        raise AssertionError("nothing was sent")


async def scrape(scrapes: Scrapes, method: bytes = b"GET", fields: bytes = b"", *, trusted: bool) -> Answer:
    answer = Answer()
    envelope = b"%b /metrics HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (method, fields)
    scrapes.door(trusted=trusted).open(StreamKind.HTTP, envelope, answer, b"", True)
    async with asyncio.timeout(5):
        await answer.done.wait()
    return answer


async def test_this_machine_is_asked_for_no_key() -> None:
    metrics = Metrics()
    metrics.exchanges["tunnel", 2] = 7
    answer = await scrape(Scrapes(metrics, Keys()), trusted=True)
    assert answer.head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(answer.body))
    assert b'wellhead_exchanges_total{place="tunnel",status="2xx"} 7.0' in answer.body


@pytest.mark.parametrize("field", [b"X-API-Key: wh_admin\r\n", b"x-api-key:wh_admin \r\n"])
async def test_an_admin_key_opens_the_metrics_to_anybody(field: bytes) -> None:
    assert b" 200 " in (await scrape(Scrapes(Metrics(), Keys()), fields=field, trusted=False)).head


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"X-API-Key: wh_other\r\n",
        b"X-API-Key: \r\n",
        b"X-API-Key: \xff\r\n",
        b"Y: x-api-key: wh_admin\r\n",
    ],
)
async def test_without_an_admin_key_a_stranger_learns_nothing(field: bytes) -> None:
    answer = await scrape(Scrapes(Metrics(), Keys()), fields=field, trusted=False)
    assert answer.head.startswith(b"HTTP/1.1 401 ") and b"wellhead_" not in answer.body


async def test_other_methods_are_not_allowed() -> None:
    answer = await scrape(Scrapes(Metrics(), Keys()), b"POST", trusted=True)
    assert answer.head.startswith(b"HTTP/1.1 405 ") and b"Allow: GET, HEAD\r\n" in answer.head


async def test_head_is_told_the_length_without_the_body() -> None:
    get, head = [
        await scrape(Scrapes(Metrics(), Keys()), method, trusted=True) for method in (b"GET", b"HEAD")
    ]
    assert head.head.split(b"\r\n")[1].startswith(b"Content-Length: ") and head.body == b""
    assert b"Content-Length: 0" not in head.head and get.body


async def test_a_directory_that_fails_is_told_at_once() -> None:
    keys = Keys()
    keys.error = OSError("disk")
    answer = await scrape(Scrapes(Metrics(), keys), fields=b"X-API-Key: k\r\n", trusted=False)
    assert answer.resets == [Reason.INTERNAL]


async def test_whoever_leaves_and_whatever_closes_leaves_no_task() -> None:
    keys, answers = Keys(), [Answer(), Answer()]
    keys.held.clear()
    scrapes = Scrapes(Metrics(), keys)
    envelope = b"POST /metrics HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n\r\n".replace(b"POST", b"GET")
    streams = [scrapes.door(trusted=False).open(StreamKind.HTTP, envelope, answer) for answer in answers]
    await asyncio.sleep(0)
    streams[0].send(b"unwanted")
    streams[0].reset(Reason.CANCELLED)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(scrapes._tasks) == 1
    await scrapes.close()
    assert not scrapes._tasks
