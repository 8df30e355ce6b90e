"""The door to sandboxes' ports: who may see one is led to the host that runs it.

::

    visitor -> house.way -> Ports.way -> open: access, status, session -> a stream on a lane of the host

Everything is decided from the records and the sessions at each request; nothing is remembered of an answer.
What is decided, in this order:

====  ===================  ==========================================================================
400   port-number          the label's port is none (the router says so)
400   sandbox-id           the label's sandbox is none (the same)
403   port-denied          the port is for no visitor
404   unknown-sandbox      no such sandbox; 503 ``records-away`` while nobody can be sure
*     -                    what ``PortAccessRules`` says to who asks
409   sandbox-not-running  the sandbox does not run
503   host-away            its host has no session, or is not heard of
503   held-bytes, …        this edge has too much to do
503   sandbox-exchanges    the sandbox has
====  ===================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.hosts import Hosts
from wellhead.edge.port_access import Asked, PortAccessRules
from wellhead.edge.port_stream import PortLine, PortStream
from wellhead.edge.pressure import Pressure
from wellhead.edge.registry import Live
from wellhead.model.ports import PortName
from wellhead.model.sandboxes import LIVE, Lane, SandboxId, SandboxStatus, SandboxView
from wellhead.visitors import port_pages
from wellhead.visitors.exchange import Door, Exchange
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.ports import for_port
from wellhead.wire.streams import Buffer, Sink, Stream, StreamKind

_SERVED: Final = frozenset((SandboxStatus.RUNNING, SandboxStatus.SNAPSHOTTING))
_OPEN: Final = LIVE - {SandboxStatus.STOPPING}  # those whose conversations go on, or wait frozen


@dataclass(frozen=True, slots=True)
class PortTerms:
    """``denied``: ports that no visitor reaches. ``exchanges``: most of one sandbox at once."""

    denied: frozenset[int]
    exchanges: int


class Ports:
    """What all requests for ports share."""

    def __init__(
        self,
        directory: HostDirectory,
        hosts: Hosts,
        pressure: Pressure,
        rules: PortAccessRules,
        terms: PortTerms,
    ) -> None:
        self.rules = rules
        self.directory = directory
        self._hosts = hosts
        self._pressure = pressure
        self._terms = terms
        self._lines: dict[SandboxId, PortLine] = {}  # of sandboxes that are asked for, while they are there
        directory.on_sandbox(self._changed)

    def is_served(self, name: PortName) -> bool:
        """Whether visitors may come to this name: for its certificate."""
        view = self.directory.sandbox(name.sandbox)
        return view is not None and view.status in _OPEN and name.port not in self._terms.denied

    def way(self, name: PortName, secure: bool, peer: str) -> tuple[Door, Memo] | Page:
        """Where a request of a visitor with this IP address is opened, or the page in its stead."""
        if name.port in self._terms.denied:
            return port_pages.DENIED
        view = self.directory.sandbox(name.sandbox)
        if view is None:
            return self._unless_away(port_pages.UNKNOWN)
        line = self._lines.get(name.sandbox)
        if line is None:
            line = PortLine()
            if view.status in _OPEN:
                self._lines[name.sandbox] = line
        return PortDoor(self, name, secure, peer, line), line

    def session(self, view: SandboxView, line: PortLine) -> Live | Page:
        """The session of the host that runs a sandbox, to open one more exchange on, or why there is none."""
        if view.status not in _SERVED:
            if view.status is SandboxStatus.MISSING:
                return port_pages.HOST_AWAY
            return self._unless_away(port_pages.NOT_RUNNING[view.status])
        session = self._hosts.door(view.host_id, Lane.BULK)
        if session is None:
            return port_pages.HOST_AWAY
        if self._pressure.high and (page := self._pressure.refusal()) is not None:
            return page
        return port_pages.FULL if line.exchanges > self._terms.exchanges else session

    def _unless_away(self, page: Page) -> Page:
        return page if self.directory.is_current() else port_pages.UNSURE

    def _changed(self, sandbox: SandboxId) -> None:
        view = self.directory.sandbox(sandbox)
        if view is None or view.status not in _OPEN:
            line = self._lines.pop(sandbox, None)
            if line is not None:
                line.end()


class PortDoor:
    """The door of one request."""

    __slots__ = ("_line", "_name", "_peer", "_ports", "_secure")
    carrier = ""

    def __init__(self, ports: Ports, name: PortName, secure: bool, peer: str, line: PortLine) -> None:
        self._ports = ports
        self._name = name
        self._secure = secure
        self._peer = peer
        self._line = line

    def open(
        self, kind: StreamKind, envelope: bytes, sink: Sink, data: Buffer = b"", end: bool = False, *,
        interactive: bool = False,
    ) -> Stream:  # fmt: skip
        assert isinstance(sink, Exchange)  # which alone can answer with a page
        stream = PortStream(sink, self._line)
        found = self._judged(kind, envelope)
        if isinstance(found, Page):
            sink.refuse(found)
        else:
            session, asked = found
            stream.start(session, kind, asked, data, end, interactive=interactive)
        return stream

    def _judged(self, kind: StreamKind, envelope: bytes) -> tuple[Live, bytes] | Page:
        """The session to open on, and what the host is asked."""
        port, sandbox = self._name
        view = self._ports.directory.sandbox(sandbox)
        if view is None:
            return port_pages.UNKNOWN
        line, _, block = envelope.partition(b"\r\n")
        method, target, _ = line.split(b" ")
        asked = Asked(view, port, kind, method, target, block, self._secure, self._peer)
        allowed = self._ports.rules.judge(asked)
        if isinstance(allowed, Page):
            return allowed
        session = self._ports.session(view, self._line)
        if isinstance(session, Page):
            return session
        head = b"%b %b HTTP/1.1\r\n%b" % (method, allowed.target, allowed.block)
        return session, for_port(head, sandbox, port)
