"""The door to sandboxes: who shows a key of theirs is led to the host that runs them, and the key stays here.

::

    visitor -> house.way -> Sandboxes.door -> open: key, sandbox, session -> a stream on a lane of the host

What is decided, in this order. Refusals are ``{"error": {"code", "message"}}``:

====================  ==================================================================================
403 forbidden         a WebSocket that a page of another origin opens
429 rate_limited      too many wrong keys from this network
401 unauthorized      no key, or one that is nobody's
403 forbidden         a key without the scope ``admin``
400 invalid_request   what stands for an id is none, or the path climbs
404 not_found         no such sandbox, or it is another organization's; metrics of one that is stopped
409 invalid_state     it does not run
503 host_unavailable  its host has no session, or this edge has too much to do
====================  ==================================================================================

While the control plane is away the copy of the records is good for what is in it: a key and a sandbox that it
knows work on. What it does not know nobody can deny then: 503.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.hosts import Hosts
from wellhead.edge.local import answering
from wellhead.edge.overflow import open_long
from wellhead.edge.pressure import Pressure
from wellhead.edge.registry import Live
from wellhead.edge.sandbox_paths import SandboxPath
from wellhead.errors import InputError
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.names import address_group, is_loopback
from wellhead.model.rates import Rate
from wellhead.model.records import ApiKey
from wellhead.model.sandboxes import Lane, SandboxStatus, SandboxView
from wellhead.visitors.exchange import Door
from wellhead.visitors.pages import RESTART_SECONDS, RETRY_SECONDS
from wellhead.wire.envelope import add_lines, read_envelope
from wellhead.wire.fields import CREDENTIALS, cut
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind

_KEPT: Final = frozenset((b"origin",))


class Refusal(NamedTuple):
    """An answer of ours. ``reason`` is the constant word for metrics and log; "" where there is none."""

    status: int
    code: str
    message: str
    reason: str = ""
    retry_seconds: float = 0.0

    def reply(self) -> tuple[bytes, bytes]:
        """Head and body."""
        body = json.dumps({"error": {"code": self.code, "message": self.message}}).encode() + b"\n"
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            "Cache-Control: no-store",
        ]
        if self.status == 401:
            lines.append("WWW-Authenticate: Bearer")
        if self.retry_seconds:
            lines.append(f"Retry-After: {math.ceil(self.retry_seconds)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n", body


FOREIGN = Refusal(403, "forbidden", "a page of another origin may not open this", "sandbox-origin")
NO_KEY = Refusal(
    401, "unauthorized", "a valid API key is needed, in X-API-Key or as a bearer token", "sandbox-key"
)
SMALL_KEY = Refusal(403, "forbidden", "this key's scope does not allow it, admin is needed", "sandbox-scope")
UNKNOWN = Refusal(404, "not_found", "no such sandbox")
UNSURE = Refusal(
    503, "host_unavailable", "the records cannot be asked right now", "control-away", RESTART_SECONDS
)
AWAY = Refusal(503, "host_unavailable", "the host of this sandbox is not connected", "no-host", RETRY_SECONDS)
LOST = AWAY._replace(message="the connection to the host broke before an answer came", reason="host-lost")
BUSY = AWAY._replace(message="the host has too much to do", reason="host-busy")
BROKEN = Refusal(502, "agent_error", "the host broke off", "host-failed")
LATE = BROKEN._replace(message="the host took too long", reason="host-late")

# What a stream that the host resets before it answers comes to.
FAILURES: Mapping[int, Refusal] = {
    Reason.REFUSED: BUSY,
    Reason.OVERLOADED: BUSY,
    Reason.SESSION_LOST: LOST,
    Reason.REMOVED: LOST,
    Reason.TIMEOUT: LATE,
}


class Sandboxes:
    """What all requests for sandboxes share.

    ``origins``: whose pages may open WebSockets, beside those of the name that is asked. ``failures``: of
    wrong keys, by network. ``refused`` is told the word of each refusal that has one, and who was refused.
    """

    def __init__(
        self,
        directory: HostDirectory,
        hosts: Hosts,
        pressure: Pressure,
        origins: frozenset[str],
        failures: Rate,
        refused: Callable[[str, str], None],
        *,
        loopback_exempt: bool,
    ) -> None:
        self.hosts = hosts
        self.refused = refused
        self._directory = directory
        self._pressure = pressure
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._failures = failures
        self._loopback_exempt = loopback_exempt

    def door(self, path: SandboxPath, peer: str) -> Door:
        """Where a request with this target of a visitor with this IP address is opened."""
        return _SandboxDoor(self, path, peer)

    def find(
        self, kind: StreamKind, envelope: bytes, fields: Mapping[bytes, bytes], path: SandboxPath, peer: str
    ) -> tuple[ApiKey, SandboxView, Live] | Refusal:
        """Whose key it is, which sandbox, and the session of its host to open it on."""
        if kind is StreamKind.WEBSOCKET and not self._is_ours(fields.get(b"origin"), envelope):
            return FOREIGN
        key = self._key(fields, peer)
        if isinstance(key, Refusal):
            return key
        try:
            view = self._directory.sandbox(path.sandbox())
        except InputError as error:
            return Refusal(400, "invalid_request", str(error))
        if view is None or view.organization_id != key.organization_id:
            return self._unless_away(UNKNOWN)
        if view.status is SandboxStatus.MISSING:
            return AWAY
        if not (view.status is SandboxStatus.RUNNING or _shown_asleep(view.status, path)):
            return self._unless_away(_not_running(view.status, path))
        if self._pressure.high and (page := self._pressure.refusal()) is not None:
            return BUSY._replace(message=page.text, reason=page.reason)
        session = self.hosts.door(view.host_id, path.lane)
        return (key, view, session) if session is not None else AWAY

    def _key(self, fields: Mapping[bytes, bytes], peer: str) -> ApiKey | Refusal:
        group = address_group(peer)
        counted = not (self._loopback_exempt and is_loopback(peer))
        if counted and (wait := self._failures.wait(group)):
            return Refusal(429, "rate_limited", "too many wrong keys from this address", "api-failures", wait)
        secret = _secret(fields)
        key = self._directory.key(secret)
        if key is None:
            if secret and not self._directory.is_current():  # it may be told in a moment
                return UNSURE
            if counted:
                self._failures.count(group)
            return NO_KEY
        if not access.is_admin(key.scopes):
            return SMALL_KEY
        self._directory.used(key.id)
        return key

    def _unless_away(self, refusal: Refusal) -> Refusal:
        return refusal if self._directory.is_current() else UNSURE

    def _is_ours(self, origin: bytes | None, envelope: bytes) -> bool:
        """Whether whoever opens a WebSocket is a page of ours, or no page at all."""
        if origin is None:
            return True
        scheme = envelope.rpartition(b"\r\nX-Forwarded-Proto: ")[2].partition(b"\r\n")[0]
        here = scheme + b"://" + read_envelope(envelope).host.lower()
        return origin == here or origin in self._origins


class _SandboxDoor:
    """The door of one request."""

    __slots__ = ("_path", "_peer", "_sandboxes")
    carrier = ""

    def __init__(self, sandboxes: Sandboxes, path: SandboxPath, peer: str) -> None:
        self._sandboxes = sandboxes
        self._path = path
        self._peer = peer

    def open(
        self, kind: StreamKind, envelope: bytes, sink: Sink, data: Buffer = b"", end: bool = False, *,
        interactive: bool = False,
    ) -> Stream:  # fmt: skip
        sandboxes, path = self._sandboxes, self._path
        line, _, block = envelope.partition(b"\r\n")
        fields, block = cut(block, CREDENTIALS, _KEPT)
        found = sandboxes.find(kind, envelope, fields, path, self._peer)
        if isinstance(found, Refusal):
            return self._answer(found).open(kind, envelope, sink, data, end)
        key, view, session = found
        method = line.partition(b" ")[0]
        told = b"Wellhead-Dialect: %b\r\nWellhead-Key: %b\r\n" % (path.dialect, key.id.encode("ascii"))
        asked = b"%b %b HTTP/1.1\r\n%b" % (method, path.target(view.id), add_lines(block, told))
        guard = _Guard(sink, self._refusal, bodyless=method == b"HEAD")
        if path.long:
            stream = open_long(sandboxes.hosts, view.host_id, session, kind, asked, guard, data, end)
        else:
            waits = path.lane is Lane.INTERACTIVE
            stream = session.open(kind, asked, guard, data, end, interactive=waits)
        guard.stream = stream
        return stream

    def _answer(self, refusal: Refusal) -> Door:
        return answering(*self._refusal(refusal))

    def _refusal(self, refusal: Refusal) -> tuple[bytes, bytes]:
        if refusal.reason:
            self._sandboxes.refused(refusal.reason, self._peer)
        return refusal.reply()


class _Guard:
    """The sink until the host answers: what fails before that becomes an answer in the API's own form."""

    __slots__ = ("_bodyless", "_refusal", "_sink", "stream")

    def __init__(
        self, sink: Sink, refusal: Callable[[Refusal], tuple[bytes, bytes]], *, bodyless: bool
    ) -> None:
        self.stream: Stream | None = None
        self._sink = sink
        self._refusal = refusal
        self._bodyless = bodyless

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if kind is HeadKind.REPLY and self.stream is not None:
            self.stream.sink = self._sink  # from here on nobody stands between
        self._sink.on_head(kind, head, data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._sink.on_data(data, end)

    def on_reset(self, reason: int) -> None:
        head, body = self._refusal(FAILURES.get(reason, BROKEN))
        self._sink.on_head(HeadKind.REPLY, head, b"" if self._bodyless else body, True)

    def on_writable(self) -> None:
        self._sink.on_writable()


def _shown_asleep(status: SandboxStatus, path: SandboxPath) -> bool:
    return status is SandboxStatus.PAUSED and path.what == b"metrics"


def _not_running(status: SandboxStatus, path: SandboxPath) -> Refusal:
    if path.what == b"metrics" and status is SandboxStatus.STOPPED:  # they went with it
        return UNKNOWN._replace(message="the sandbox is stopped, there are no metrics of it")
    return Refusal(409, "invalid_state", f"the sandbox is {status.value}, it must be running")


def _secret(fields: Mapping[bytes, bytes]) -> Secret:
    """The key that is shown; a repeated field's joined values are nobody's."""
    given = fields.get(b"x-api-key")
    if given is None:
        scheme, _, given = fields.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = b""
    return Secret(given.strip().decode("latin-1"))
