"""Which session of a host gets a stream, and what the control plane hears of its lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from wellhead.edge.hosts import HostLive, Hosts
from wellhead.model.sandboxes import HostId, Lane
from wellhead.wire.feed import HostSeen

HOST, OTHER = HostId("host-1"), HostId("host-2")
INTERACTIVE, BULK = Lane.INTERACTIVE, Lane.BULK


@dataclass(eq=False)
class Fake:
    usable: bool = True
    peer: str = "192.0.2.7"


def session(peer: str = "192.0.2.7") -> HostLive:
    return cast(HostLive, Fake(peer=peer))


def seen(*lanes: Lane, peer: str = "192.0.2.7", agent: str = "a/1") -> HostSeen:
    return HostSeen(HOST, list(lanes), peer, agent)


def test_a_stream_goes_to_its_lane_and_to_the_other_where_there_is_none() -> None:
    hosts, keys, bulk = Hosts(lambda seen: None), session(), session()
    assert hosts.door(HOST, BULK) is None
    hosts.add(HOST, INTERACTIVE, keys, "a/1")
    assert hosts.door(HOST, BULK) is keys
    hosts.add(HOST, BULK, bulk, "a/1")
    assert (hosts.door(HOST, INTERACTIVE), hosts.door(HOST, BULK)) == (keys, bulk)
    assert hosts.door(OTHER, BULK) is None
    hosts.remove(HOST, keys)
    assert hosts.door(HOST, INTERACTIVE) is bulk
    hosts.remove(HOST, bulk)
    assert hosts.door(HOST, INTERACTIVE) is None and not list(hosts.sessions())


def test_a_newer_session_takes_the_new_streams_and_the_older_one_is_there_if_it_goes() -> None:
    hosts, old, new = Hosts(lambda seen: None), session(), session()
    hosts.add(HOST, BULK, old, "")
    hosts.add(HOST, BULK, new, "")
    assert hosts.door(HOST, BULK) is new
    cast(Fake, new).usable = False
    assert hosts.door(HOST, BULK) is old
    cast(Fake, old).usable = False
    assert hosts.door(HOST, BULK) is None
    assert hosts.by_lane() == {"interactive": 0, "bulk": 2}


def test_what_runs_may_go_on_in_sessions_that_drain() -> None:
    hosts, keys, bulk = Hosts(lambda seen: None), session(), session()
    assert hosts.late_door(HOST, BULK) is None
    hosts.add(HOST, INTERACTIVE, keys, "")
    hosts.add(HOST, BULK, bulk, "")
    cast(Fake, bulk).usable = False
    assert hosts.late_door(HOST, BULK) is keys, "rather one that does not"
    cast(Fake, keys).usable = False
    assert (hosts.late_door(HOST, BULK), hosts.late_door(HOST, INTERACTIVE)) == (bulk, keys)
    hosts.remove(HOST, bulk)
    assert hosts.late_door(HOST, BULK) is keys and hosts.door(HOST, BULK) is None


def test_each_change_is_told_once_and_what_changes_nothing_is_not() -> None:
    told: list[HostSeen] = []
    hosts, one, two, elsewhere = Hosts(told.append), session(), session(), session("192.0.2.8")
    hosts.add(HOST, BULK, one, "a/1")
    hosts.add(HOST, INTERACTIVE, two, "a/1")
    hosts.add(HOST, INTERACTIVE, session(), "a/1")
    assert told == [seen(BULK), seen(INTERACTIVE, BULK)]
    hosts.remove(HOST, two)
    hosts.remove(HOST, two)
    hosts.remove(OTHER, one)
    assert len(told) == 2
    hosts.add(HOST, BULK, elsewhere, "a/2")
    assert told[2:] == [seen(INTERACTIVE, BULK, peer="192.0.2.8", agent="a/2")]
    for each in list(hosts.sessions()):
        hosts.remove(HOST, each)
    assert told[-1] == seen(peer="", agent="")


def test_a_new_control_plane_is_told_of_every_host_that_is_there() -> None:
    told: list[HostSeen] = []
    hosts, one = Hosts(told.append), session()
    hosts.add(HOST, BULK, one, "a/1")
    hosts.add(OTHER, BULK, session(), "a/1")
    hosts.remove(OTHER, next(each for each in hosts.sessions() if each is not one))
    told.clear()
    hosts.tell_all()
    assert told == [seen(BULK)]


def test_a_new_session_is_told_when_it_can_be_used() -> None:
    hosts, there = Hosts(lambda seen: None), list[HostLive | None]()
    hosts.on_session(lambda host: there.append(hosts.door(host, Lane.BULK)))
    first, second = session(), session()
    hosts.add(HOST, Lane.BULK, first, "a/1")
    hosts.add(HOST, Lane.BULK, second, "a/1")
    hosts.remove(HOST, second)
    assert there == [first, second]


def test_what_a_host_says_it_is_cannot_forge_a_line() -> None:
    told: list[HostSeen] = []
    Hosts(told.append).add(HOST, BULK, session(), "a\u202e" + "x" * 500)
    assert told[0].agent.startswith("a\\u202exx") and len(told[0].agent) == 200
