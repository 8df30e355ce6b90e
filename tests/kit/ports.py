"""An edge with one host and one running sandbox, whose ports everybody may see; no sockets."""

from __future__ import annotations

import asyncio
import json
from typing import cast

from tests.kit.doors import FakeDoor
from tests.kit.house import COUNTS, TERMS, House, Visit, status
from tests.kit.sandboxes import PUBLIC, SandboxRecords
from wellhead.edge import path_form
from wellhead.edge.hosts import HostLive, Hosts
from wellhead.edge.port_access import PortAccessRules
from wellhead.edge.port_door import Ports, PortTerms
from wellhead.model.links import KEY_BYTES, LinkSigner
from wellhead.model.ports import PortName
from wellhead.model.rates import Rate
from wellhead.model.sandboxes import HostId, Lane, SandboxId
from wellhead.visitors.exchange import Door
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.feed import Wake

DENIED = 49983
LINKS = LinkSigner(bytes(KEY_BYTES))
END = b"\r\n\r\n"
MOST_EXCHANGES = 3
MOST_WAITING = 4  # half of them for one sandbox
RESUME_SECONDS = 20
MOST_WRONG_KEYS = 3  # a minute


class PortHouse(House):
    """The host's lanes are ``keys`` and ``bulk``; ``wakes`` is what the control plane was told of."""

    def __init__(self) -> None:
        super().__init__(TERMS, COUNTS)
        self.records = SandboxRecords()
        self.wakes: list[Wake] = []
        self.hosts = Hosts(lambda seen: None)
        self.host, _ = self.records.new_host()
        self.sandbox = self.records.new_sandbox(self.host, access=PUBLIC)
        self.admin = self.records.new_key()
        self.keys, self.bulk = self.joined(self.host)
        self.rules = PortAccessRules(
            self.records,
            LINKS,
            Rate(MOST_WRONG_KEYS, asyncio.get_running_loop().time),
            loopback_exempt=True,
        )
        self.ports = Ports(
            self.records,
            self.hosts,
            self.ingress.pressure,
            self.rules,
            self.wakes.append,
            PortTerms(
                denied=frozenset((DENIED,)),
                exchanges=MOST_EXCHANGES,
                resume_seconds=RESUME_SECONDS,
                resume_waiting=MOST_WAITING,
            ),
        )

    def joined(self, host: HostId) -> tuple[FakeDoor, FakeDoor]:
        """New sessions of a host: its interactive lane and the one for bulk."""
        doors = FakeDoor(), FakeDoor()
        for door, lane in zip(doors, (Lane.INTERACTIVE, Lane.BULK), strict=True):
            door.peer = "192.0.2.9"  # type: ignore[attr-defined]  # of a session
            self.hosts.add(host, lane, cast(HostLive, door), "")
        return doors

    def port(self, name: PortName, secure: bool, peer: str) -> tuple[Door, Memo] | Page:
        return self.ports.way(name, secure, peer)

    def paths(self, target: bytes, secure: bool, peer: str) -> tuple[str, Door | Page, Memo | None]:
        return path_form.way(self.ports, target, secure, peer)

    def name(self, port: int | str = 3000, sandbox: SandboxId | str | None = None) -> str:
        """The hostname of a port."""
        return f"{port}-{sandbox or self.sandbox}.localhost"

    def asking(
        self, target: str = "/", lines: str = "", *, method: str = "GET", host: str | None = None
    ) -> Visit:
        """A visitor that has asked for a port, 3000 if not told; what it was answered waits."""
        visit = self.visit()
        head = f"{method} {target} HTTP/1.1\r\nHost: {host or self.name()}\r\n{lines}\r\n"
        visit.connection.data_received(head.encode())
        return visit

    def ask(
        self, target: str = "/", lines: str = "", *, method: str = "GET", host: str | None = None
    ) -> tuple[int, str]:
        """Status and reason of the page that such a visitor is answered with at once, as a program."""
        head, _, body = self.asking(target, lines, method=method, host=host).transport.take().partition(END)
        told = json.loads(body)
        assert status(head) == told["status"] and b"\r\nCache-Control: no-store\r\n" in head
        return told["status"], told["reason"]
