"""The control plane's end of the records' feed: tells the edge all records, then each change."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import assert_never, cast

from wellhead.errors import LinkError, ProtocolError
from wellhead.logs import Log
from wellhead.model.changes import Change
from wellhead.model.sandboxes import HostId, SandboxId
from wellhead.model.snapshot import Snapshot
from wellhead.wire import feed as wire
from wellhead.wire.feed import (
    AlpnChallenge,
    Ask,
    CertificatePut,
    ChallengeOver,
    Changes,
    Failed,
    FromEdge,
    Here,
    HostAnswered,
    HostCall,
    HostSeen,
    HttpChallenge,
    KeysUsed,
    Mark,
    OrdersFailing,
    Presences,
    Stop,
    Taken,
    Trespass,
    Wake,
    Wanted,
    Whole,
)

SETTLE_SECONDS = 1.0  # for the edge to take a change; an edge that is busier than that does so later
TELL_SECONDS = 10.0  # for the edge to take what it is told besides
CALL_GRACE_SECONDS = 2.0  # for the edge to say itself that a host is late

_log = Log("wellhead.control")


class Feed(asyncio.Protocol):
    """``over`` is done when the edge asked for the end: it raises ProtocolError where its lines are none.

    ``on_wanted`` is told of each name of ours that was asked for at the edge and has no certificate.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.on_wanted: Callable[[str], None] = lambda hostname: None
        self.on_host_seen: Callable[[HostSeen], None] = lambda seen: None
        self.on_wake: Callable[[SandboxId], None] = lambda sandbox: None
        self._calls: dict[int, asyncio.Future[HostAnswered]] = {}
        self._called = 0
        self.over: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._snapshot: Snapshot | None = None
        self._lines = wire.lines_of_edge()
        self._writable = asyncio.Event()
        self._writable.set()
        self._untold: list[Change] = []
        self._told = 0  # number of the last changes that went out
        self._marked = 0
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def tell_all(self, snapshot: Snapshot, *, made_key: bool) -> None:
        """Tell the edge what there is, and from now on what changes. ``made_key``: see ``Whole``."""
        self._snapshot = snapshot
        snapshot.on_change(self._changed)
        # What changes meanwhile is told beside it: a record is told as it is when its turn comes, if it is.
        told = snapshot.as_told(snapshot.told())
        while batch := list(islice(told, wire.BATCH)):
            await self._writable.wait()
            self._write(wire.from_control(Changes(batch)))
            await asyncio.sleep(0)
        self._flush()
        self._write(wire.from_control(Whole(made_key)))

    async def fail(self, text: str) -> None:
        """Tell why there will be no records, and close."""
        self._write(wire.from_control(Failed(text)))
        if self._transport is not None:
            self._transport.close()
        await self.over

    async def settle(self) -> None:
        """Wait until the edge has taken every change that was made, or for SETTLE_SECONDS."""
        self._flush()
        if not await self._is_taken(SETTLE_SECONDS):
            _log.warning("the edge is behind", changes=self._told - self._taken)

    async def tell(self, message: HttpChallenge | AlpnChallenge | ChallengeOver | CertificatePut) -> None:
        """Tell the edge, and wait until it has taken it.

        Raises:
            LinkError: it did not within TELL_SECONDS, or is gone.
        """
        self._told += 1
        self._write(wire.from_control(message))
        if not await self._is_taken(TELL_SECONDS) or self._transport is None:
            raise LinkError("the edge does not answer")

    async def call_host(
        self, host: HostId, method: str, target: str, body: str, seconds: float
    ) -> tuple[int, str]:
        """Ask a host through the edge: status and body of its answer.

        Raises:
            LinkError: it could not be asked, or did not answer in time.
        """
        self._called += 1
        number = self._called
        answer: asyncio.Future[HostAnswered] = self._loop.create_future()
        self._calls[number] = answer
        self._flush()  # what the host is asked about the edge knows first
        self._write(wire.from_control(HostCall(number, host, method, target, body, seconds)))
        try:
            async with asyncio.timeout(seconds + CALL_GRACE_SECONDS):
                answered = await answer
        except TimeoutError:
            raise LinkError(f"the host did not answer within {seconds:g} s") from None
        finally:
            self._calls.pop(number, None)
        if not answered.status:
            raise LinkError(answered.body)
        return answered.status, answered.body

    def note(self, message: OrdersFailing) -> None:
        """Tell the edge, who hears of it at some time."""
        self._write(wire.from_control(message))

    async def _is_taken(self, seconds: float) -> bool:
        """Whether the edge has taken what it was told, waited for at most so long."""
        if self._taken >= self._told or self._transport is None:
            return True
        if self._marked < self._told:
            self._marked = self._told
            self._write(wire.from_control(Mark(self._told)))
        taken: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((self._told, taken))
        try:
            async with asyncio.timeout(seconds):
                await taken
        except TimeoutError:
            return False
        return True

    def _changed(self, change: Change) -> None:
        if not self._untold:
            self._loop.call_soon(self._flush)
        self._untold.append(change)

    def _flush(self) -> None:
        """What one turn of the loop changed goes out together."""
        changes, self._untold = self._untold, []
        for start in range(0, len(changes), wire.BATCH):
            self._told += 1
            self._write(wire.from_control(Changes(changes[start : start + wire.BATCH])))

    def _write(self, line: bytes) -> None:
        if self._transport is not None:
            self._transport.write(line)

    # From the edge

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._lines.receive(data):
                self._take(message)
        except ProtocolError as error:
            if not self.over.done():
                self.over.set_exception(error)

    def _take(self, message: FromEdge) -> None:
        match message:
            case Taken():
                self._settled(message.number)
            case Presences():
                if self._snapshot is not None:
                    for seen in message.seen:
                        self._snapshot.put_presence(seen.tunnel, seen.presence)
            case KeysUsed():
                if self._snapshot is not None:
                    for key_id in message.keys:
                        self._snapshot.used(key_id)
            case Trespass():
                self._trespass(message)
            case Wanted():
                self.on_wanted(message.hostname)
            case HostAnswered():
                if (waiting := self._calls.pop(message.number, None)) is not None and not waiting.done():
                    waiting.set_result(message)
            case HostSeen():
                self.on_host_seen(message)
            case Wake():
                self.on_wake(message.sandbox)
            case Ask():
                self._write(wire.from_control(Here()))
            case Stop():
                if not self.over.done():
                    self.over.set_result(None)
            case _:
                assert_never(message)

    def _trespass(self, claim: Trespass) -> None:
        if self._snapshot is None:
            return
        key, view = self._snapshot.key_of_id(claim.key), self._snapshot.tunnel_of_id(claim.tunnel)
        if key is not None and view is not None:
            self._snapshot.trespassed(key, view, claim.peer)

    def _settled(self, number: int) -> None:
        self._taken = max(self._taken, number)
        while self._waiting and self._waiting[0][0] <= self._taken:
            taken = self._waiting.popleft()[1]
            if not taken.done():
                taken.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        self._settled(self._told)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(LinkError("the edge is gone"))
        if not self.over.done():
            self.over.set_result(None)
