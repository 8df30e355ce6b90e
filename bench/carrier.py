"""Agents' carriers beside each other: our agent on each of them, and official SDKs' agents on theirs.

Each target is a server of its own, on an address of loopback of its own: those agents dial port 443.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.kit.sdks import AGENT, NEW, OLD, sdk
from tests.kit.zones import PORT, may_bind, zone

from bench import product
from bench.ground import Ground, Route
from bench.load import Door
from bench.processes import Child, Unavailable
from wellhead.client import Client
from wellhead.model.access import Secret

GROUP = "carrier"
MUX, H2 = "carrier-mux", "carrier-h2"


def mux(ground: Ground) -> Route:
    """Our agent on our own carrier."""
    return _ours(ground, MUX, "mux")


def http2(ground: Ground) -> Route:
    """The same agent on the other one."""
    return _ours(ground, H2, "h2")


def older_sdk(ground: Ground) -> Route:
    """The official SDK of the first generation; it makes its tunnel itself."""
    edge, address = _zoned(ground, f"carrier-inkbox-{OLD}")
    return _official(ground, OLD, edge, address)


def newer_sdk(ground: Ground) -> Route:
    """The newest official SDK, for a tunnel that is there."""
    edge, address = _zoned(ground, f"carrier-inkbox-{NEW}")
    with Client(f"https://{address}", Secret(edge.key), ca_file=edge.data / "ca.pem") as client:
        client.tunnels.create(product.TUNNEL)
    return _official(ground, NEW, edge, address)


TARGETS: dict[str, Callable[[Ground], Route]] = {
    MUX: mux,
    H2: http2,
    f"carrier-inkbox-{OLD}": older_sdk,
    f"carrier-inkbox-{NEW}": newer_sdk,
}


def _ours(ground: Ground, name: str, carrier: str) -> Route:
    edge, _ = _zoned(ground, name)
    argv = ["-m", "wellhead", "http", str(ground.upstream), "--name", product.TUNNEL, "--carrier", carrier]
    return _route(name, carrier, edge, ground.python(f"{name}-agent", *argv, env=edge.env))


def _official(ground: Ground, version: str, edge: product.Edge, address: str) -> Route:
    name = f"carrier-inkbox-{version}"
    home = ground.directory / f"{name}-home"
    home.mkdir(0o700)
    env = {
        "HOME": str(home),
        "SSL_CERT_FILE": str(edge.data / "ca.pem"),
        "INKBOX_BASE_URL": f"https://{address}",
        "INKBOX_API_KEY": edge.key,
        "PYTHONPATH": None,
    }
    try:
        python = sdk(version).python
    except AssertionError as error:
        raise Unavailable(f"inkbox {version} is not installed: {str(error)[-120:]}") from None
    argv = [str(python), "-P", str(AGENT), product.TUNNEL]
    agent = ground.spawn(
        f"{name}-agent", [*argv, "--forward-to", f"http://127.0.0.1:{ground.upstream}"], env=env
    )
    return _route(name, "h2", edge, agent)


def _zoned(ground: Ground, name: str) -> tuple[product.Edge, str]:
    """A server and the address that agents find it at."""
    if not may_bind():
        raise Unavailable(f"port {PORT} of loopback is not ours to open (run as root)")
    address = zone()
    return product.start_edge(ground, name, https=f"{address}:{PORT}", flags=(f"--zone={address}",)), address


def _route(name: str, carrier: str, edge: product.Edge, agent: Child) -> Route:
    door = Door(edge.http)
    product.until_it_answers(agent, door)
    return Route(name, "plain", f"TLS, {carrier}", product.LIMITS, door, (edge.process,), (agent,), (GROUP,))
