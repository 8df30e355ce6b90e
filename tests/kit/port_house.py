"""Ports of real sandboxes, asked for as the edge does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.kit.sandbox_host import SandboxHost
from tests.kit.upstreams import Visitor, envelope, visit
from wellhead.host.entry import Entry
from wellhead.host.port_terms import PortTerms
from wellhead.host.ports import Ports
from wellhead.host.runtime.network import entered
from wellhead.host.runtime.runtime import Running, Runtime
from wellhead.host.table import Table
from wellhead.model.sandboxes import SandboxId, SandboxStatus
from wellhead.wire.pair import PairStream
from wellhead.wire.ports import for_port, take_port
from wellhead.wire.streams import Buffer, StreamKind

_UPGRADE = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "X-Request-Id: 1")
MESSAGE = b"\x81\x82\0\0\0\0hi"  # masked
ECHO = b"\x81\x02hi"


@dataclass
class Door:
    """One port, as ``visit`` takes it."""

    ports: Ports
    sandbox: SandboxId
    port: int

    def accept(self, stream: PairStream, kind: StreamKind, asked: bytes, data: Buffer, end: bool) -> None:
        taken = take_port(for_port(asked, self.sandbox, self.port))
        assert taken is not None
        self.ports.accept(stream, kind, *taken, data, end)


class PortHouse:
    """``ports`` of what ``runtime`` runs; ``table`` is what it knows of that."""

    def __init__(self, runtime: Runtime, terms: PortTerms | None = None) -> None:
        self.table = Table()
        self.ports = Ports(self.table, runtime, terms or PortTerms())

    def add(self, running: Running) -> Entry:
        """A sandbox that runs since now."""
        entry = Entry(running.spec, 0.0, self.table.wall(), self.table.clock(), running=running)
        self.table.add(entry)
        self.table.become(entry, SandboxStatus.RUNNING)
        self.table.stir(entry.id)
        return entry

    def pass_through(self, entry: Entry, *statuses: SandboxStatus) -> None:
        for status in statuses:
            self.table.become(entry, status)

    def end(self, entry: Entry) -> None:
        """As ``Sandboxes`` ends one, but for the runtime's part."""
        self.pass_through(entry, SandboxStatus.STOPPING, SandboxStatus.STOPPED)
        self.table.forget(entry)

    def converse(self, sandbox: SandboxId, port: int) -> Visitor:
        """A WebSocket to a port."""
        asked = envelope("GET", "/", *_UPGRADE)
        return visit(Door(self.ports, sandbox, port), asked, b"", False, kind=StreamKind.WEBSOCKET)

    def ask(self, sandbox: SandboxId, port: int, *fields: str, target: str = "/") -> Visitor:
        """A GET for a port."""
        return visit(Door(self.ports, sandbox, port), envelope("GET", target, *fields, "X-Request-Id: 1"))


@contextlib.asynccontextmanager
async def port_house(host: SandboxHost, terms: PortTerms | None = None) -> AsyncIterator[PortHouse]:
    house = PortHouse(host.runtime, terms)
    try:
        yield house
    finally:
        await house.ports.aclose()


def listening(
    host: SandboxHost,
    sandbox: SandboxId,
    address: str = "127.0.0.1",
    port: int = 0,
    *,
    v6only: bool = True,
    backlog: int = 64,
) -> socket.socket:
    """A socket that listens inside a sandbox."""
    kept = host.kept.read(sandbox)
    assert kept is not None
    with entered(f"/proc/{kept.pid}/ns/net"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock
