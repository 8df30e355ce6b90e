"""The edge's end of the records' feed: a copy of the records that follows the control plane's.

The copy answers whether or not a control plane is there. Without one it stays as it is, which is known of it:
what is in it serves on, and of what is not in it nobody can say that it does not exist.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import assert_never, cast

from wellhead.edge.challenges import Challenges
from wellhead.errors import LinkError, LocalStateError, ProtocolError
from wellhead.logs import Log
from wellhead.model.records import ApiKey, KeyId, TunnelId, TunnelView
from wellhead.model.snapshot import Snapshot, Told
from wellhead.wire import feed as wire
from wellhead.wire.feed import (
    AlpnChallenge,
    Ask,
    CertificatePut,
    ChallengeOver,
    Changes,
    Failed,
    FromControl,
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
    Seen,
    Stop,
    Taken,
    Trespass,
    Wake,
    Wanted,
    Whole,
)

TELL_SECONDS = 0.1  # agents come in crowds, and the records have a second to be true
EXPIRE_SECONDS = 1.0  # how late an expired key may be seen to be one
BEAT_SECONDS = 1.0  # between two looks whether the control plane answers
SILENT_BEATS = 5  # unanswered, and nobody is led to it any more
HUNG_BEATS = 20  # unanswered, and it is given up
STARTING_BEATS = 120  # the same where it never answered: it reads its libraries from a cold, busy disk
TRESPASSES_WAITING = 1000  # refused claims not yet told; the oldest are forgotten first

_log = Log("wellhead.edge")


class Follower:
    """``directory`` is the copy. ``link`` makes the protocol of each connection with a control plane.

    ``tell_seconds``: what the edge has to tell within this time, it tells together.
    """

    def __init__(self, tell_seconds: float = TELL_SECONDS) -> None:
        self._tell_seconds = tell_seconds
        self.directory = Snapshot(self._seen)
        self.directory.current = False
        self.directory.on_trespass(self._trespass)
        self.directory.on_used(self._key_used)
        self._loop = asyncio.get_running_loop()
        self.challenges = Challenges(self._loop.time)
        self.orders_failing = 0  # names whose last order of a certificate failed
        self.on_certificates: Callable[[], None] = lambda: None
        self.on_host_call: Callable[[HostCall], None] = self._no_host
        self.on_host_seen_anew: Callable[[], None] = lambda: None
        self._link: Link | None = None  # the one that has told all records
        self._untold: dict[TunnelId, None] = {}  # a set that keeps its order
        self._used: dict[KeyId, None] = {}  # the same, of keys
        self._trespasses: deque[Trespass] = deque(maxlen=TRESPASSES_WAITING)
        self._telling: asyncio.TimerHandle | None = None
        self._timer = self._loop.call_later(EXPIRE_SECONDS, self._expire)

    def link(self) -> Link:
        return Link(self)

    def close(self) -> None:
        self._timer.cancel()
        if self._telling is not None:
            self._telling.cancel()

    def on_whole(self, link: Link, told: Told) -> None:
        """A control plane has told all records: these."""
        self.directory.keep_only(told)
        self.directory.current = True
        self._link = link
        # It may be a new one, which knows of no session.
        self._untold = dict.fromkeys(self.directory.had_sessions())
        self.on_host_seen_anew()
        self.flush()

    def on_lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self.directory.current = False

    def on_silent(self, link: Link, silent: bool) -> None:
        """A control plane does not answer, or does again."""
        if self._link is link:
            self.directory.current = not silent

    def want(self, hostname: str) -> None:
        """Tell that a name of ours has no certificate; nobody to tell is no matter, it is asked for again."""
        if self._link is not None and not self._link.choked:
            self._link.send(Wanted(hostname))

    def tell(self, message: HostAnswered | HostSeen | Wake) -> None:
        """Tell the control plane, if there is one: of the next one ``on_host_seen_anew`` tells."""
        if self._link is not None:
            self._link.send(message)

    def _no_host(self, call: HostCall) -> None:
        self.tell(HostAnswered(call.number, 0, "no host has a session here"))

    def flush(self) -> None:
        """Tell what is to be told, as far as the control plane takes it now."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        link = self._link
        while link is not None and not link.choked and self._has_news():
            if batch := list(islice(self._untold, wire.BATCH)):
                for tunnel_id in batch:
                    del self._untold[tunnel_id]
                link.send(Presences([Seen(each, self.directory.presence(each)) for each in batch]))
            if used := list(islice(self._used, wire.BATCH)):
                for key_id in used:
                    del self._used[key_id]
                link.send(KeysUsed(used))
            if self._trespasses:
                link.send(self._trespasses.popleft())

    def _seen(self, tunnel_id: TunnelId) -> None:
        self._soon()
        self._untold[tunnel_id] = None

    def _trespass(self, key: ApiKey, tunnel: TunnelView, peer: str) -> None:
        self._soon()
        self._trespasses.append(Trespass(key.id, tunnel.id, peer))

    def _key_used(self, key_id: KeyId) -> None:
        self._soon()
        self._used[key_id] = None

    def _has_news(self) -> bool:
        return bool(self._untold or self._used or self._trespasses)

    def _soon(self) -> None:
        # Each time that it hears something the control plane wants a CPU, perhaps the one that traffic needs.
        if self._link is not None and self._telling is None:
            self._telling = self._loop.call_later(self._tell_seconds, self.flush)

    def _expire(self) -> None:
        self.directory.expire()
        self._timer = self._loop.call_later(EXPIRE_SECONDS, self._expire)


class Link(asyncio.Protocol):
    """One connection with a control plane.

    ``whole`` is done when all records were told, and fails with LocalStateError where the control plane says
    why it cannot serve, with LinkError where it ends before. ``lost`` is done at the end.

    One that hangs is seen by its silence. That is counted in beats of this loop and not in time, of which
    this process may have slept through as much as the other.
    """

    def __init__(self, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        self.whole: asyncio.Future[Whole] = loop.create_future()
        self.whole.add_done_callback(_looked_at)
        self.lost: asyncio.Future[None] = loop.create_future()
        self.choked = False
        self._follower = follower
        self._transport: asyncio.Transport | None = None
        self._lines = wire.lines_of_control()
        self._told = Told()
        self._silent = 0  # beats since a question that is still open
        self._patience = STARTING_BEATS
        self._timer = loop.call_later(BEAT_SECONDS, self._beat)

    def send(self, message: FromEdge) -> None:
        if self._transport is not None:
            self._transport.write(wire.from_edge(message))

    def stop(self) -> None:
        """Ask the control plane to write what is waiting and to end."""
        self._follower.flush()
        self.send(Stop())

    def close(self) -> None:
        """End the connection, whatever the control plane does."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._lines.receive(data):
                self._take(message)
        except ProtocolError as error:
            _log.error("the records' feed broke", error=error)
            self.close()

    def _take(self, message: FromControl) -> None:
        match message:
            case Changes():
                for change in message.changes:
                    if not self.whole.done():
                        self._told.note(change)
                    self._follower.directory.apply(change)
            case Mark():
                self.send(Taken(message.number))
            case Whole():
                told, self._told = self._told, Told()
                self._follower.on_whole(self, told)
                self.whole.set_result(message)
            case Here():
                self._heard()
            case CertificatePut():
                self._follower.on_certificates()
            case OrdersFailing():
                self._follower.orders_failing = message.names
            case HostCall():
                self._follower.on_host_call(message)
            case HttpChallenge():
                self._follower.challenges.put_http(message.hostname, message.token, message.answer)
            case AlpnChallenge():
                self._follower.challenges.put_alpn(message.hostname, message.certificate, message.key)
            case ChallengeOver():
                self._follower.challenges.remove(message.hostname, message.token)
            case Failed():
                self.whole.set_exception(LocalStateError(message.text))
            case _:
                assert_never(message)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)
        if not self._silent:
            self.send(Ask())
        self._silent += 1
        if self._silent == SILENT_BEATS and self.whole.done():
            _log.warning("control plane does not answer", seconds=self._silent * BEAT_SECONDS)
            self._follower.on_silent(self, True)
        if self._silent > self._patience:
            _log.error("control plane hangs, given up", seconds=self._silent * BEAT_SECONDS)
            self.close()

    def _heard(self) -> None:
        if self._silent >= SILENT_BEATS and self.whole.done():
            _log.info("control plane answers again")
            self._follower.on_silent(self, False)
        self._silent = 0
        self._patience = HUNG_BEATS

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        self._follower.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._timer.cancel()
        self._follower.on_lost(self)
        if not self.whole.done():
            self.whole.set_exception(LinkError("the control plane ended before it had told its records"))
        if not self.lost.done():
            self.lost.set_result(None)


def _looked_at(whole: asyncio.Future[Whole]) -> None:
    # A failure is told to whoever waits; that nobody does is no news.
    if not whole.cancelled():
        whole.exception()
