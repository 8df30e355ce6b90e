"""When the edge holds so much that it takes on no more."""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.house import COUNTS, House, status
from wellhead.edge.pressure import Pressure

GET = b"GET / HTTP/1.1\r\nHost: my-agent.localhost\r\n\r\n"


@dataclass
class Holder:
    held: int


def test_what_everybody_holds_is_added_up_and_the_bound_is_too_much() -> None:
    pressure = Pressure(1000, 0.5)
    pressure.count([Holder(600)], [Holder(399)])
    assert (pressure.held, pressure.high) == (999, False)
    pressure.count([Holder(600)], [Holder(400)])
    assert (pressure.held, pressure.high) == (1000, True)


def test_it_is_over_when_a_tenth_is_free_again() -> None:
    pressure = Pressure(1000, 0.5)
    for held, high in ((1000, True), (901, True), (899, False), (999, False)):
        pressure.count([Holder(held)])
        assert pressure.high is high, held


def test_a_loop_that_stays_late_puts_off_a_growing_part_and_a_pause_puts_off_nobody() -> None:
    pressure = Pressure(1000, 0.5)
    for lag, part in ((3.0, 0), (0.1, 0), (0.5, 0), (0.6, 20), (0.7, 40), (0.4, 35), (0.6, 35), (0.6, 55)):
        pressure.lag(lag)
        pressure.count()
        refused = [pressure.refusal() for _ in range(100)] if pressure.high else []
        assert abs(len([page for page in refused if page]) - part) <= 1, lag


def test_it_never_puts_off_all_and_takes_them_back_within_five_seconds() -> None:
    pressure = Pressure(1000, 0.5)
    for _ in range(20):
        pressure.lag(2.0)
    assert None in [pressure.refusal() for _ in range(100)]
    for _ in range(20):  # four a second
        pressure.lag(0.0)
    assert not pressure.high


def test_without_a_bound_no_lag_puts_anybody_off() -> None:
    pressure = Pressure(1000, 0.0)
    for _ in range(5):
        pressure.lag(60.0)
    assert not pressure.high


async def test_who_is_put_off_because_the_loop_is_late_is_told_when_to_ask_again(house: House) -> None:
    house.tunnel("my-agent")
    for _ in range(9):
        house.ingress.pressure.lag(1.0)
    replies = [house.visit().says(GET) for _ in range(20)]
    put_off = [reply for reply in replies if reply]
    assert 18 <= len(put_off) < 20
    assert all(status(reply) == 503 and b"Retry-After: " in reply for reply in put_off)
    assert house.lines[-1].reason == "loop-lag"


async def test_new_requests_of_an_edge_that_holds_too_much_are_put_off_and_old_ones_go_on(
    house: House,
) -> None:
    door = house.tunnel("my-agent")
    before, after = house.visit(), house.visit()
    before.says(GET)
    house.ingress.pressure.count([Holder(COUNTS.max_held_bytes)])
    assert status(reply := after.says(GET)) == 503
    assert b"Retry-After: " in reply and house.lines[-1].reason == "held-bytes"
    door.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi")
    assert status(before.transport.take()) == 200
    house.ingress.pressure.count()
    assert after.says(GET) == b"" and len(door.opened) == 2
