"""What visitors' connections share: their counts, their clocks, and the way a request takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.kit.house import COUNTS, House, status
from wellhead.edge.ingress import Ingress
from wellhead.visitors import pages
from wellhead.visitors.crowd import SWEEP_SECONDS
from wellhead.visitors.house import Place
from wellhead.wire.streams import Reason

JUMPING_CLOCK = True


class Connection:
    """Fits ``ingress.Swept``."""

    def __init__(self, peer: str = "192.0.2.7") -> None:
        self.peer = peer
        self.ticks = 0
        self.drained = False
        self.aborted = ""
        self.held = 0

    def tick(self, now: float) -> None:
        self.ticks += 1

    def drain(self) -> None:
        self.drained = True

    def abort(self, reason: str) -> None:
        self.aborted = reason


def admit(ingress: Ingress, *peers: str) -> list[pages.Page | None]:
    return [ingress.admit(Connection(peer)) for peer in peers]


async def test_connections_of_one_network_count_together(house: House) -> None:
    ingress = house.ingress
    ingress._counts = replace(COUNTS, connections_per_address=1)
    assert admit(ingress, "192.0.2.7", "192.0.2.8", "2001:db8::1") == [None] * 3
    assert admit(ingress, "192.0.2.7", "2001:db8::2") == [pages.TOO_MANY] * 2


async def test_one_connection_that_fails_does_not_stop_the_clocks_of_the_others(house: House) -> None:
    class Failing(Connection):
        def tick(self, now: float) -> None:
            raise RuntimeError("a bug")

    failing = [Failing(), Failing()]
    others = [Connection() for _ in range(20)]
    for connection in (failing[0], *others, failing[1]):
        house.ingress.admit(connection)
    await asyncio.sleep(1.5 * SWEEP_SECONDS)
    assert {connection.ticks for connection in others} == {1}
    assert [connection.aborted for connection in failing] == ["internal"] * 2


async def test_this_machine_is_not_counted_where_it_is_exempt(house: House) -> None:
    house.ingress._counts = replace(COUNTS, connections_per_address=1)
    assert admit(house.ingress, "127.0.0.1", "127.0.0.1", "::1", "::1") == [None] * 4
    house.ingress._counts = replace(COUNTS, connections_per_address=1, loopback_exempt=False)
    assert admit(house.ingress, "127.0.0.1") == [pages.TOO_MANY]


async def test_a_connection_that_ends_gives_its_place_back_once(house: House) -> None:
    ingress = house.ingress
    ingress._counts = replace(COUNTS, connections_per_address=1)
    first, second = Connection(), Connection()
    assert ingress.admit(first) is None and ingress.admit(second) is pages.TOO_MANY
    for _ in range(2):
        ingress.release(first)
        ingress.release(second)
    assert not ingress._by_address and len(ingress) == 0
    assert ingress.admit(first) is None


async def test_beyond_the_edges_limit_everybody_is_turned_away(house: House) -> None:
    house.ingress._counts = replace(COUNTS, max_connections=1)
    assert admit(house.ingress, "192.0.2.7", "192.0.2.8") == [None, pages.EDGE_FULL]


async def test_connections_are_swept_four_times_a_second(house: House) -> None:
    connection = Connection()
    house.ingress.admit(connection)
    await asyncio.sleep(4.1 * SWEEP_SECONDS)
    assert connection.ticks == 4


async def test_draining_waits_for_the_last_connection(house: House) -> None:
    connection = Connection()
    house.ingress.admit(connection)
    drained = asyncio.create_task(house.ingress.drain(30))
    await asyncio.sleep(29)
    assert connection.drained and not drained.done()
    house.ingress.release(connection)
    await asyncio.sleep(0.1)
    assert drained.done() and not connection.aborted


async def test_draining_cuts_what_does_not_end_in_time(house: House) -> None:
    connection = Connection()
    house.ingress.admit(connection)
    await house.ingress.drain(30)
    assert connection.aborted == "drained"


async def test_closing_waits_a_moment_for_what_it_cut(house: House) -> None:
    leaving, stuck = Connection(), Connection()
    house.ingress.admit(stuck)
    house.ingress.admit(leaving)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await house.ingress.close()
    assert stuck.aborted and leaving.aborted and 0.9 < loop.time() - began < 1.5
    house.ingress.release(stuck)
    house.ingress.release(leaving)
    began = loop.time()
    await house.ingress.close()
    assert loop.time() - began < 0.1


async def test_request_ids_are_unique(house: House) -> None:
    assert len({house.ingress.request_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("hostname", "sni", "secure", "local", "expected"),
    [
        ("a.localhost", "a.localhost", True, False, Place.TUNNEL),
        ("b.localhost", "a.localhost", True, False, pages.MISDIRECTED),
        ("a.localhost", None, True, False, pages.MISDIRECTED),
        ("localhost", "a.localhost", True, False, pages.MISDIRECTED),
        ("a.localhost", "localhost", True, False, pages.MISDIRECTED),
        ("api.localhost", "localhost", True, False, Place.CONTROL),
        ("127.0.0.1", None, True, False, Place.CONTROL),
        ("a.localhost", None, False, False, Place.TUNNEL),
        ("localhost", None, False, True, Place.CONTROL),
        ("localhost", None, False, False, pages.PLAIN_CONTROL),
        ("example.com", None, False, True, Place.NOWHERE),
    ],
)
async def test_a_connection_serves_the_name_it_was_made_for(
    house: House, hostname: str, sni: str | None, secure: bool, local: bool, expected: object
) -> None:
    found = house.ingress.destination(hostname, sni, secure=secure, local=local)
    shown = found if isinstance(found, pages.Page) else found.page or found.place
    assert shown is expected


async def test_only_the_list_of_void_certificates_is_read_without_tls_from_afar(house: House) -> None:
    destination = house.ingress.destination("localhost", None, secure=False, local=False)
    doors = {
        target: house.ingress.way(destination, target, "192.0.2.7")[2]
        for target in (b"/ca.crl", b"/ca.crl/", b"/ca.crl?a", b"/CA.crl", b"/api/v1/whoami", b"/")
    }
    assert doors.pop(b"/ca.crl") is house.door
    assert set(doors.values()) == {pages.PLAIN_CONTROL}
    tunnel = house.ingress.destination("nobody.localhost", None, secure=False, local=False)
    assert house.ingress.way(tunnel, b"/ca.crl", "192.0.2.7")[2] is pages.UNKNOWN


async def test_a_tunnel_has_a_page_for_each_way_of_not_being_there(house: House) -> None:
    assert house.ingress.tunnel("nobody") is pages.UNKNOWN
    door = house.tunnel("my-agent")
    line = next(iter(house.registry.lines.values()))
    assert house.ingress.tunnel("my-agent") == (door, line)
    door.usable = False
    assert house.ingress.tunnel("my-agent") is pages.NO_AGENT
    door.usable = True
    line.exchanges = COUNTS.connections_per_tunnel
    assert house.ingress.tunnel("my-agent") is pages.TUNNEL_FULL
    house.registry.lines.clear()
    assert house.ingress.tunnel("my-agent") is pages.NO_AGENT


GET = b"GET / HTTP/1.1\r\nHost: my-agent.localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


async def test_exchanges_of_a_tunnel_are_counted_until_they_end_however_they_end(house: House) -> None:
    door = house.tunnel("my-agent")
    line = next(iter(house.registry.lines.values()))
    visits = [house.visit() for _ in range(4)]
    for visit in visits:
        visit.says(GET)
    assert line.exchanges == 4
    door.opened[0].reply(OK, b"hi")
    door.opened[1].sink.on_reset(Reason.SESSION_LOST)
    door.opened[2].reply(OK, b"too long")
    visits[3].connection.connection_lost(None)
    assert line.exchanges == 0


async def test_a_full_tunnel_turns_away_the_next_and_serves_again(house: House) -> None:
    house.ingress._counts = replace(COUNTS, connections_per_tunnel=1)
    door = house.tunnel("my-agent")
    first, second = house.visit(), house.visit()
    first.says(GET)
    assert status(second.says(GET)) == 503
    door.stream.reply(OK, b"hi")
    assert second.says(GET) == b"" and len(door.opened) == 2


async def test_a_request_refused_unheard_is_served_by_another_session(house: House) -> None:
    first, second = house.tunnel("my-agent"), house.tunnel("my-agent")
    visit = house.visit()
    visit.says(GET)
    second.load = 1
    first.stream.sink.on_reset(Reason.REFUSED)
    second.stream.reply(OK, b"hi")
    assert status(visit.transport.take()) == 200


async def test_a_session_that_drains_between_two_requests_of_a_connection_gets_none_of_them(
    house: House,
) -> None:
    first, visit = house.tunnel("my-agent"), house.visit()
    visit.says(GET)
    first.stream.reply(OK, b"hi")
    second = house.tunnel("my-agent")
    first.usable = False
    visit.says(GET)
    assert (len(first.opened), len(second.opened)) == (1, 1)


async def test_a_tunnel_that_is_removed_is_gone_for_connections_that_knew_it(house: House) -> None:
    door, visit = house.tunnel("my-agent"), house.visit()
    visit.says(GET)
    door.stream.reply(OK, b"hi")
    visit.transport.take()
    house.directory.views.clear()
    assert status(visit.says(GET)) == 404
