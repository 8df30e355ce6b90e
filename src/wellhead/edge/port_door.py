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
503   sandbox-resuming     it is paused, was woken for this request, and does not run in time
409   sandbox-not-running  the sandbox does not run
503   host-away            its host has no session, or is not heard of
503   held-bytes, …        this edge has too much to do
503   sandbox-exchanges    the sandbox has
503   sandbox-away         its host says that it is not there, and no record says why
====  ===================  ==========================================================================

What its host did not take, and of which nothing was sent, is decided once more: the sandbox may have moved,
or been paused, a moment before the records say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.hosts import Hosts
from wellhead.edge.port_access import SERVED, Asked, PortAccessRules
from wellhead.edge.port_grant import EVERYBODY
from wellhead.edge.port_stream import PortLine, PortStream
from wellhead.edge.pressure import Pressure
from wellhead.edge.registry import Live
from wellhead.edge.wakes import Wakes
from wellhead.model.ports import PortName
from wellhead.model.records import KeyId
from wellhead.model.sandboxes import LIVE, Lane, SandboxId, SandboxStatus, SandboxView
from wellhead.visitors import port_pages
from wellhead.visitors.exchange import Door, Exchange
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.feed import Wake
from wellhead.wire.path_form import PathForm
from wellhead.wire.port_request import asked_origin
from wellhead.wire.ports import for_port
from wellhead.wire.streams import Buffer, Sink, Stream, StreamKind

PREFLIGHTS: Final = 16  # of strangers, open at once at one sandbox: they may not take what its visitors need
CHANGE_SECONDS: Final = 1.0  # in which the records say why a host does not have its sandbox
_RESUMED: Final = frozenset((SandboxStatus.PAUSING, SandboxStatus.PAUSED, SandboxStatus.RESUMING))
_OPEN: Final = LIVE - {SandboxStatus.STOPPING}  # those whose conversations go on, or wait frozen


@dataclass(frozen=True, slots=True)
class PortTerms:
    """``denied``: ports that no visitor reaches. ``exchanges``: most of one sandbox at once.

    ``resume_waiting`` requests wait at once for paused sandboxes, each ``resume_seconds`` at most.
    ``path_form``: there is a name for it.
    """

    denied: frozenset[int]
    exchanges: int
    resume_seconds: float
    resume_waiting: int
    path_form: bool = False


class Ports:
    """What all requests for ports share. ``tell`` tells the control plane of sandboxes to be resumed."""

    def __init__(
        self,
        directory: HostDirectory,
        hosts: Hosts,
        pressure: Pressure,
        rules: PortAccessRules,
        tell: Callable[[Wake], None],
        terms: PortTerms,
    ) -> None:
        self.rules = rules
        self.directory = directory
        self.wakes = Wakes(directory, tell, most=terms.resume_waiting)
        self.resume_seconds = terms.resume_seconds
        self._hosts = hosts
        self._pressure = pressure
        self._terms = terms
        self._lines: dict[SandboxId, PortLine] = {}  # of sandboxes that are asked for, while they are there
        directory.on_sandbox(self._changed)
        directory.on_revoked(self._revoked)
        hosts.on_session(self.wakes.joined)

    def is_served(self, name: PortName) -> bool:
        """Whether visitors may come to this name: for its certificate."""
        view = self.directory.sandbox(name.sandbox)
        return view is not None and view.status in _OPEN and name.port not in self._terms.denied

    def way(
        self, name: PortName, secure: bool, peer: str, below: bytes | None = None
    ) -> tuple[Door, Memo] | Page:
        """Where a request of a visitor with this IP address is opened, or the page in its stead.

        ``below``: the target, where the request came in the path form.
        """
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
        return PortDoor(self, name, secure, peer, line, below), line

    def session(self, view: SandboxView | None, line: PortLine) -> Live | Page:
        """The session of the host that runs a sandbox, to open one more exchange on, or why there is none.

        RESUMING: it may be waited for.
        """
        if view is None:
            return self._unless_away(port_pages.UNKNOWN)
        if view.status not in SERVED:
            if view.status is SandboxStatus.MISSING:
                return port_pages.HOST_AWAY
            if view.status in _RESUMED and view.access.auto_resume:
                return port_pages.RESUMING
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
            return
        if (line := self._lines.get(sandbox)) is not None:
            line.narrow(view.access)
        self.wakes.changed(sandbox)

    def _revoked(self, key: KeyId) -> None:
        for line in self._lines.values():
            line.revoke(key)


class PortDoor:
    """The door of one request."""

    __slots__ = ("_below", "_form", "_grant", "_line", "_name", "_peer", "_ports", "_preflight", "_secure")
    carrier = ""

    def __init__(
        self, ports: Ports, name: PortName, secure: bool, peer: str, line: PortLine, below: bytes | None
    ) -> None:
        self._below = below
        self._form: PathForm | None = None
        self._ports = ports
        self._name = name
        self._grant = EVERYBODY
        self._preflight = False  # see ``Allowed``
        self._secure = secure
        self._peer = peer
        self._line = line

    def open(
        self, kind: StreamKind, envelope: bytes, sink: Sink, data: Buffer = b"", end: bool = False, *,
        interactive: bool = False,
    ) -> Stream:  # fmt: skip
        assert isinstance(sink, Exchange)  # which alone can answer with a page
        port, sandbox = self._name
        ports = self._ports
        view = ports.directory.sandbox(sandbox)
        if view is not None and self._below is None and ports.rules.passes(view, port, envelope):
            asked: bytes | Page = for_port(envelope, sandbox, port)  # fast path: nothing to judge
        else:
            asked = self._judged(view, kind, envelope, whole=end)
        if isinstance(asked, Page):
            stream = PortStream(self, sink, self._line, kind, b"", end, interactive, None)
            stream.refuse(asked)
        else:
            stream = PortStream(self, sink, self._line, kind, asked, end, interactive, self._form)
            if self._grant is not EVERYBODY:
                stream.grant = self._grant
            stream.preflight = self._preflight
            self._settle(stream, ports.session(view, self._line))
        return stream

    @property
    def port(self) -> int:
        return self._name.port

    def _judged(
        self, view: SandboxView | None, kind: StreamKind, envelope: bytes, *, whole: bool
    ) -> bytes | Page:
        """What the host is asked, where the visitor may."""
        if view is None:
            return port_pages.UNKNOWN
        port, sandbox = self._name
        line, _, block = envelope.partition(b"\r\n")
        method, target, _ = line.split(b" ")
        if self._below is not None:
            target = self._below
            self._form = PathForm(self._name, asked_origin(block, secure=self._secure))
        asked = Asked(
            view, port, kind, method, target, block, whole, self._secure, self._peer, self._form is not None
        )
        allowed = self._ports.rules.judge(asked)
        if isinstance(allowed, Page):
            return allowed
        if allowed.preflight and self._line.preflights >= PREFLIGHTS:
            return port_pages.FULL
        self._grant = allowed.grant
        self._preflight = allowed.preflight
        head = b"%b %b HTTP/1.1\r\n%b" % (method, allowed.target, allowed.block)
        if self._form is not None:
            head = self._form.request_head(head)
        return for_port(head, sandbox, port)

    def _found(self) -> Live | Page:
        ports = self._ports
        return ports.session(ports.directory.sandbox(self._name.sandbox), self._line)

    def _settle(self, stream: PortStream, found: Live | Page) -> None:
        if not isinstance(found, Page):
            stream.start(found)
        elif found is not port_pages.RESUMING or not self._waits(stream, self._ports.resume_seconds):
            stream.refuse(found)

    def _waits(self, stream: PortStream, seconds: float) -> bool:
        if not self._ports.wakes.wait(self._name.sandbox, stream, seconds):
            return False
        stream.wait(seconds)
        return True

    # What becomes of a stream that did not start, or waits

    def again(self, stream: PortStream, refused_by: Live) -> None:
        found = self._found()
        if stream.tries > 1:
            stream.refuse(port_pages.NOT_HERE)
        elif found is not refused_by:
            self._settle(stream, found)
        elif not self._waits(stream, CHANGE_SECONDS):
            stream.refuse(port_pages.NOT_HERE)

    def look(self, stream: PortStream) -> None:
        found = self._found()
        if found is not port_pages.RESUMING and found is not port_pages.HOST_AWAY:
            self.left(stream)
            self._settle(stream, found)

    def late(self, stream: PortStream) -> None:
        found = self._found()
        stream.refuse(found if isinstance(found, Page) else port_pages.NOT_HERE)

    def left(self, stream: PortStream) -> None:
        self._ports.wakes.leave(self._name.sandbox, stream)
