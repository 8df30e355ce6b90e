"""When the edge holds so much that it takes on no more."""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.house import House, status
from wellhead.edge.pressure import Pressure

GET = b"GET / HTTP/1.1\r\nHost: my-agent.localhost\r\n\r\n"


@dataclass
class Holder:
    held: int


def test_what_everybody_holds_is_added_up_and_the_bound_is_too_much() -> None:
    pressure = Pressure(1000)
    pressure.count([Holder(600)], [Holder(399)])
    assert (pressure.held, pressure.high) == (999, False)
    pressure.count([Holder(600)], [Holder(400)])
    assert (pressure.held, pressure.high) == (1000, True)


def test_it_is_over_when_a_tenth_is_free_again() -> None:
    pressure = Pressure(1000)
    for held, high in ((1000, True), (901, True), (899, False), (999, False)):
        pressure.count([Holder(held)])
        assert pressure.high is high, held


async def test_new_requests_of_an_edge_that_holds_too_much_are_put_off_and_old_ones_go_on(
    house: House,
) -> None:
    door = house.tunnel("my-agent")
    before, after = house.visit(), house.visit()
    before.says(GET)
    house.ingress.pressure.high = True
    assert status(reply := after.says(GET)) == 503
    assert b"Retry-After: " in reply and house.lines[-1].reason == "held-bytes"
    door.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi")
    assert status(before.transport.take()) == 200
    house.ingress.pressure.high = False
    assert after.says(GET) == b"" and len(door.opened) == 2
