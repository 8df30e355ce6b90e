import pytest

from wellhead.edge.router import NOWHERE, Router
from wellhead.visitors.house import Destination, Place


@pytest.mark.parametrize(
    "hostname", ["example.com", "zone.example.com", "api.example.com", "localhost", "127.0.0.1", "::1"]
)
def test_the_control_plane_has_its_names(hostname: str) -> None:
    assert Router("example.com", "zone.example.com").destination(hostname).place is Place.CONTROL


@pytest.mark.parametrize("zone", ["192.0.2.7", "2001:db8::7"])
def test_the_zone_may_be_an_address(zone: str) -> None:
    router = Router("example.com", zone)
    assert router.destination(zone).place is Place.CONTROL and router.is_zone(zone)


def test_a_label_under_the_domain_is_a_tunnel() -> None:
    assert Router("example.com", "example.com").destination("my-agent.example.com") == Destination(
        Place.TUNNEL, "my-agent"
    )


@pytest.mark.parametrize(
    "hostname",
    ["", ".example.com", "a.b.example.com", "example.org", "notexample.com", "example.com.evil", "10.0.0.1"],
)
def test_everything_else_is_nowhere(hostname: str) -> None:
    assert Router("example.com", "example.com").destination(hostname) == NOWHERE


def test_agents_may_dial_the_zone_and_this_machines_own_names() -> None:
    router = Router("example.com", "zone.example.com")
    names = ("zone.example.com", "localhost", "::1", "my-agent.example.com")
    assert [router.is_zone(name) for name in names] == [True, True, True, False]


@pytest.mark.parametrize(("port", "origin"), [(443, "https://a.x.test"), (8443, "https://a.x.test:8443")])
def test_a_tunnels_origin_has_the_port_that_visitors_dial(port: int, origin: str) -> None:
    assert Router("x.test", "x.test", port).origin("a") == origin
