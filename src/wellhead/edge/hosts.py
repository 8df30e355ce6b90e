"""The live sessions of hosts, by lane, and what the control plane is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from wellhead.edge.registry import Live
from wellhead.model.records import AGENT_MAX
from wellhead.model.sandboxes import HostId, Lane
from wellhead.model.text import escape
from wellhead.wire.feed import HostSeen
from wellhead.wire.streams import Sink, Stream, StreamKind


class HostLive(Live, Protocol):
    """A host's session as the edge sees it."""

    @property
    def open_late(self) -> Callable[[StreamKind, bytes, Sink], Stream]:
        """Opens what belongs to a stream that runs, also where no new streams are taken any more."""


class _Seat(NamedTuple):
    """One session of a host."""

    session: HostLive
    lane: Lane
    agent: str


class Hosts:
    """``tell`` is told each host's lanes, whenever something about them changes."""

    def __init__(self, tell: Callable[[HostSeen], None]) -> None:
        self._tell = tell
        self._seats: dict[HostId, list[_Seat]] = {}  # the youngest first
        self._told: dict[HostId, HostSeen] = {}
        self._on_session: list[Callable[[HostId], None]] = []

    def on_session(self, call: Callable[[HostId], None]) -> None:
        """Have ``call`` told, at once, of each host that has one session more."""
        self._on_session.append(call)

    def door(self, host: HostId, lane: Lane) -> HostLive | None:
        """The youngest session of this lane that takes streams, else one of another lane, else None."""
        other: HostLive | None = None
        for session, its_lane, _ in self._seats.get(host, ()):
            if session.usable:
                if its_lane is lane:
                    return session
                other = other or session
        return other

    def late_door(self, host: HostId, lane: Lane) -> HostLive | None:
        """As ``door``, else one that drains: for what belongs to a stream that runs."""
        seats = self._seats.get(host, [])
        draining = sorted(seats, key=lambda seat: seat.lane is not lane)
        return self.door(host, lane) or (draining[0].session if draining else None)

    def sessions(self) -> Iterator[HostLive]:
        """All of them, of every host."""
        return (seat.session for seats in self._seats.values() for seat in seats)

    def by_lane(self) -> dict[str, int]:
        """How many sessions there are, for the metrics."""
        counts = Counter(seat.lane for seats in self._seats.values() for seat in seats)
        return {lane.value: counts[lane] for lane in Lane}

    def add(self, host: HostId, lane: Lane, session: HostLive, agent: str) -> None:
        """New streams of the lane go to this session from now on; older ones finish what they have.

        ``agent`` is what the host says it is: a stranger's text.
        """
        seat = _Seat(session, lane, escape(agent[:AGENT_MAX])[:AGENT_MAX])
        self._seats.setdefault(host, []).insert(0, seat)
        self._changed(host)
        for call in self._on_session:
            call(host)

    def remove(self, host: HostId, session: Live) -> None:
        """The session is no longer chosen. Unknown ones are ignored."""
        seats = self._seats.get(host, [])
        left = [seat for seat in seats if seat.session is not session]
        if len(left) == len(seats):
            return
        if left:
            self._seats[host] = left
        else:
            del self._seats[host]
        self._changed(host)

    def tell_all(self) -> None:
        """Tell of every host that has a session: whoever listens may be new and know of none."""
        for seen in self._told.values():
            self._tell(seen)

    def _changed(self, host: HostId) -> None:
        seats = self._seats.get(host, [])
        lanes = {seat.lane for seat in seats}
        peer, agent = (seats[0].session.peer, seats[0].agent) if seats else ("", "")
        seen = HostSeen(host, [lane for lane in Lane if lane in lanes], peer, agent)
        if self._told.get(host) == seen:
            return
        if seats:
            self._told[host] = seen
        else:
            del self._told[host]
        self._tell(seen)
