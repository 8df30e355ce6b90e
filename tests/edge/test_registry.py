from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from wellhead.edge.registry import Line, Registry
from wellhead.model.records import TunnelId
from wellhead.net.session import Session


@dataclass(eq=False)
class Fake:
    load: int = 0
    usable: bool = True


def session(load: int = 0, *, usable: bool = True) -> Session:
    return cast(Session, Fake(load, usable))


def line_of(*sessions: Session) -> Line:
    line = Line()
    line.sessions = list(sessions)
    return line


def test_the_session_with_the_fewest_streams_is_picked() -> None:
    idle = session(1)
    assert line_of(session(3), idle, session(2)).pick() is idle


def test_a_session_that_takes_no_streams_is_never_picked() -> None:
    busy = session(9)
    assert line_of(session(usable=False), busy).pick() is busy
    assert line_of(session(usable=False), session(usable=False)).pick() is None
    assert line_of(session(usable=False)).pick() is None and line_of().pick() is None


def test_a_session_that_refused_is_not_picked_again_however_idle_it_is() -> None:
    refused, busy = session(0), session(9)
    assert line_of(refused, busy, session(usable=False)).pick_other(refused) is busy
    assert line_of(refused).pick_other(refused) is None


def test_a_tunnel_without_sessions_takes_no_place() -> None:
    registry, one, other = Registry(), session(), session()
    tunnel = TunnelId("t")
    registry.add(tunnel, one)
    registry.add(tunnel, other)
    assert len(registry) == 2
    registry.remove(tunnel, one)
    registry.remove(tunnel, one)
    registry.remove(TunnelId("another"), other)
    assert len(registry) == 1
    registry.remove(tunnel, other)
    assert not registry.lines
