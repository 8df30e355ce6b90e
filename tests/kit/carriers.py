"""One app behind one edge by every way there is to bring it there: a table of drivers, and what differs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.kit.programs import Agent, Edge, Program
from tests.kit.sdks import NEW, OLD, SdkAgent, sdk
from tests.kit.visitors import Reply, request, visiting
from tests.kit.zones import zoned
from wellhead.client import Client
from wellhead.model.records import TlsMode

APP = Path(__file__).with_name("carrier_app.py")
ROOT = APP.parents[2]


@dataclass(frozen=True)
class Driver:
    """A way to bring an app online, and in what its visitors notice which one it is.

    The fields from ``streams`` on are the carrier's or the agent's own limits, as promised.
    """

    name: str
    sdk: str | None = None  # its version; None: our agent
    inside: bool = False  # the app runs in the agent's process; else it is a URL's
    carrier: str = "h2"
    streams: bool = False  # a reply is on its way while it is being made
    bodies: int | None = 32 << 20  # the longest body either way; beyond: 413 up, 502 down
    head_length: bool = False  # a reply to HEAD says how long it would be
    strict_paths: bool = True  # %2F and dot segments are refused with 400
    latin1: bool = False  # bytes beyond UTF-8 pass in header values
    long_messages: bool = False  # of more than 64,000 characters or 48,000 bytes to the app; else 1009
    reasons: bool = True  # the reason of a Close comes from the app to the visitor


Conversation = AbstractAsyncContextManager[ClientConnection]

DRIVERS = (
    Driver("inkbox-0.3.0-url", OLD, reasons=False),
    Driver("inkbox-0.3.0-app", OLD, inside=True),
    Driver("inkbox-0.7.20-url", NEW, reasons=False),
    Driver("inkbox-0.7.20-app", NEW, inside=True),
    Driver(
        "ours-mux", carrier="mux", streams=True, bodies=None, head_length=True, strict_paths=False,
        latin1=True, long_messages=True,
    ),
    Driver(
        "ours-h2", streams=True, head_length=True, strict_paths=False, latin1=True, long_messages=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The app as one driver has it online."""

    driver: Driver
    edge: Edge
    agent: Program
    hostname: str

    @property
    def host(self) -> str:
        return f"{self.hostname}:{self.edge.https}"

    async def ask(
        self, target: str = "/echo", *fields: str, method: str = "GET", body: bytes | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        async with visiting(self.edge, self.hostname) as visitor:
            await visitor.send(request(target, self.host, *fields, method=method, body=body))
            return await visitor.reply(method)

    def conversing(
        self, target: str = "/ws", **options: Any
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """A WebSocket."""
        return conversing(self.edge, self.hostname, target, **options)


@contextlib.asynccontextmanager
async def conversing(
    edge: Edge, hostname: str, target: str = "/ws", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A WebSocket of a visitor."""
    async with connect(
        f"wss://{hostname}{target}", host=edge.address, port=edge.https, ssl=edge.trust(),
        server_hostname=hostname, proxy=None, compression=None, max_size=None, open_timeout=20,
        close_timeout=5, ping_interval=None, **options,
    ) as client:  # fmt: skip
        yield client


class Upstream(Program):
    """The app as a server; ``url`` is where."""

    def __init__(self, *flags: str) -> None:
        super().__init__(
            [
                sys.executable, "-m", "uvicorn", "tests.kit.carrier_app:app", "--port", "0",
                "--http", "h11", "--ws", "websockets-sansio", "--lifespan", "off", "--no-access-log", *flags,
            ],
            cwd=ROOT,
        )  # fmt: skip
        try:
            self.url = self.line(r"running on (https?://127\.0\.0\.1:\d+)")[1]
        except BaseException:
            self.kill()
            raise


def launched(driver: Driver, edge: Edge, home: Path, url: str, tls_mode: str = "edge") -> Agent | SdkAgent:
    """The driver's agent for a tunnel of the driver's name; not waited for."""
    name = driver.name.replace(".", "-")
    flags = () if tls_mode == "edge" else ("--tls-mode", tls_mode)
    if driver.sdk is None:
        ours = () if driver.carrier == "mux" else ("--carrier", driver.carrier)
        return Agent(edge.home, url, "--name", name, *ours, *flags, wait=False)
    made = sdk(driver.sdk)
    if driver.sdk == NEW:
        identity(edge, name, tls_mode)
        flags = ()
    app = ("--app", str(APP)) if driver.inside else ("--forward-to", url)
    return SdkAgent(made, edge, home, name, *app, *flags, wait=False)


def identity(edge: Edge, name: str, tls_mode: str = "edge") -> None:
    """What the newer SDK's tunnels belong to."""
    with Client(f"https://{edge.address}", edge.key, ca_file=edge.ca) as client:
        client.identities.create(name, tls_mode=TlsMode(tls_mode))


@contextlib.contextmanager
def carried(
    home: Path,
    *drivers: Driver,
    tls_mode: str = "edge",
    settings: Mapping[str, object] | None = None,
) -> Iterator[dict[str, Place]]:
    """An edge on a zone of its own, and the app online by each driver; by the driver's name."""
    with ExitStack() as stack:
        edge = stack.enter_context(zoned(home / ".wellhead", **(settings or {})))
        url = stack.enter_context(Upstream()).url
        agents = [launched(each, edge, home, url, tls_mode) for each in drivers]
        for agent in agents:
            stack.callback(agent.kill)
        for agent in agents:
            agent.connected()
        yield {
            driver.name: Place(driver, edge, agent, f"{driver.name.replace('.', '-')}.localhost")
            for driver, agent in zip(drivers, agents, strict=True)
        }
