"""Every error that Wellhead raises, in one tree.

A class answers three questions: whose fault it is (its branch), whether trying again may help
(``retry``), and what a stranger may be told (``code``, a short constant word). Foreign errors are
mapped where they enter; nobody compares message text. Messages are lower case and name the value
and the bound.

::

    WellheadError
    ├── SettingsError      the operator's: says which setting and why          NEVER
    ├── InputError         the caller's: a bad name, address or argument       NEVER
    ├── LocalStateError    the state directory is unsafe or unreadable         NEVER
    ├── StateError         a wrong call of ours: a bug                         NEVER
    ├── HandlerError       an application in this process cannot start         NEVER
    ├── ProtocolError      the peer broke the wire; the session ends           LATER
    │   └── FrameError · FlowError · HelloError · HttpError · H2Error · WebSocketError · ClientHelloError
    ├── LinkError          the network or the other program went away          LATER
    │   └── DialError · TrustError (NEVER) · SessionLost · StreamReset · UpstreamError · VisitorGone
    │       DialError ── ProtocolNotOffered (NEVER)
    ├── IssuerError        a certificate's issuer refuses, or is away          LATER
    ├── RefusedError       the edge knows us and says no                       as it says
    │   └── SecretRejected (TunnelForbidden) · Superseded · TunnelRemoved · HostRemoved · VersionRefused
    │       QuotaExceeded · Draining · RecordsAway
    └── ApiError           the control plane's answer, by status               by status
        ├── Conflict · NameUnavailable · TunnelTLSModeMismatch · TunnelStateConflict · TunnelCSRStateConflict
        ├── SandboxState · TooLarge
        └── BadRequest · Unauthorized · Forbidden · NotFound · Conflict · Invalid · RateLimited · Unavailable
    CommandFailed          a command in a sandbox ended otherwise than it should   NEVER
    └── CommandTimeout
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Retry(enum.Enum):
    """What reconnecting reads, and nothing else."""

    NEVER = "never"
    LATER = "later"


class WellheadError(Exception):
    """The root: catching it catches everything that Wellhead raises on purpose."""

    retry: Retry = Retry.NEVER
    code: str = "error"


class SettingsError(WellheadError):
    code = "settings"


class InputError(WellheadError, ValueError):
    code = "input"


class LocalStateError(WellheadError):
    code = "local-state"


class StateError(WellheadError, RuntimeError):
    code = "internal"


class HandlerError(WellheadError):
    """An application that answers in this process: it cannot be loaded, or its start failed."""

    code = "handler"


class ProtocolError(WellheadError):
    retry = Retry.LATER
    code = "protocol"


class FrameError(ProtocolError):
    code = "frame"


class FlowError(ProtocolError):
    code = "flow"


class HelloError(ProtocolError):
    code = "hello"


class HttpError(ProtocolError):
    """A malformed or unacceptable HTTP message.

    ``status`` is what a visitor is answered; ``reason`` is a constant word for logs and metrics.
    """

    code = "http"

    def __init__(self, status: int, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.status = status
        self.reason = reason


class H2Error(ProtocolError):
    """An HTTP/2 connection that ends because its peer broke a rule or passed a limit.

    ``error_code`` is what its GOAWAY says (RFC 9113 section 7), ``reason`` a constant word for logs and
    metrics.
    """

    code = "http2"

    def __init__(self, error_code: int, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.error_code = error_code
        self.reason = reason


class WebSocketError(ProtocolError):
    """A frame that RFC 6455 forbids or a limit refuses; ``close_code`` is what the sender is told."""

    code = "websocket"

    def __init__(self, close_code: int, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.close_code = close_code
        self.reason = reason


class ClientHelloError(ProtocolError):
    """Bytes that are not a TLS ClientHello, or one that we do not serve.

    ``alert`` is the TLS alert description to send (RFC 8446 section 6), ``reason`` a constant word.
    """

    code = "client-hello"

    def __init__(self, alert: int, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.alert = alert
        self.reason = reason


class LinkError(WellheadError):
    retry = Retry.LATER
    code = "link"


class DialError(LinkError):
    code = "dial"


class NothingListens(DialError):
    """The machine is there, and refuses: nobody listens on that port."""

    code = "nothing-listens"


class ProtocolNotOffered(DialError):
    """Somebody answers, and speaks none of the protocols that we asked for."""

    retry = Retry.NEVER
    code = "protocol-not-offered"


class TrustError(LinkError):
    """The other side's certificate is not trusted or not for this name.

    ``issuer_known``: it is trusted who made it, and yet it is not good.
    """

    retry = Retry.NEVER
    code = "trust"

    def __init__(self, message: str, *, issuer_known: bool = False) -> None:
        super().__init__(message)
        self.issuer_known = issuer_known


class SessionLost(LinkError):
    code = "session-lost"


class StreamReset(LinkError):
    """The peer gave up a stream; ``reason`` is a ``wellhead.wire.frames.Reason`` value."""

    code = "reset"

    def __init__(self, reason: int) -> None:
        super().__init__(f"stream reset by the peer, reason {reason}")
        self.reason = reason


class UpstreamError(LinkError):
    code = "upstream"


class VisitorGone(LinkError, ConnectionResetError):
    """The visitor left before the end of its request or of the reply; an ``OSError``, as ASGI asks for."""

    code = "visitor-gone"


class IssuerError(WellheadError):
    """No certificate for now. ``reason`` is a constant word for logs and metrics, such as "away"."""

    retry = Retry.LATER
    code = "issuer"

    def __init__(self, message: str, *, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class RefusedError(WellheadError):
    """The edge refused a hello. ``retry`` is what the refusal itself said."""

    code = "refused"

    def __init__(
        self, message: str, *, retry: Retry | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        if retry is not None:
            self.retry = retry
        self.retry_after_seconds = retry_after_seconds


class SecretRejected(RefusedError):
    code = "secret-rejected"


class TunnelForbidden(SecretRejected):
    """The credential may be somebody's, but it opens no tunnel of this name or id.

    There is none, or none any more, or it is another's. By its code it is told as its parent is.
    """


class Superseded(RefusedError):
    code = "superseded"


class TunnelRemoved(RefusedError):
    code = "tunnel-removed"


class HostRemoved(RefusedError):
    """The control plane knows the host no more: it was deleted there."""

    code = "host-removed"


class VersionRefused(RefusedError):
    code = "version"


class QuotaExceeded(RefusedError):
    retry = Retry.LATER
    code = "quota"


class Draining(RefusedError):
    retry = Retry.LATER
    code = "draining"


class RecordsAway(RefusedError):
    """The credential is not known to be good, and the records cannot be asked whether it is."""

    retry = Retry.LATER
    code = "records-away"


class ApiError(WellheadError):
    """An error answer of the control plane."""

    code = "api"
    by_status: ClassVar[dict[int, type[ApiError]]] = {}

    def __init__(
        self, status: int, detail: str, *, retry_after_seconds: float | None = None, reason: str = ""
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.reason = reason  # the limit's word in metrics and logs
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        if status == 429 or status >= 500:
            self.retry = Retry.LATER


class BadRequest(ApiError):
    code = "bad-request"


class Unauthorized(ApiError):
    code = "unauthorized"


class Forbidden(ApiError):
    code = "forbidden"


class NotFound(ApiError):
    code = "not-found"


class Conflict(ApiError):
    code = "conflict"


class NameUnavailable(Conflict):
    """The name is another record's, is held for its last owner, or is reserved."""

    code = "name-unavailable"


class TunnelTLSModeMismatch(Conflict):
    """TLS of the tunnel's visitors ends at the edge: it has no certificate of its own."""

    code = "tls-mode"


class TunnelStateConflict(Conflict):
    """The tunnel's status does not allow it."""

    code = "tunnel-status"


class TunnelCSRStateConflict(TunnelStateConflict):
    """Nothing is signed for a tunnel of this status."""


class SandboxState(Conflict):
    """The sandbox's status does not allow it: it is paused, or it is no more."""

    code = "sandbox-status"


class TooLarge(ApiError):
    code = "too-large"


class Invalid(ApiError):
    code = "invalid"


class RateLimited(ApiError):
    code = "rate-limited"


class Unavailable(ApiError):
    code = "unavailable"


class CommandFailed(WellheadError):
    """A command in a sandbox that was to succeed; what it wrote until then, and how it ended.

    ``exit_code`` is None where the ``signal`` ended it.
    """

    code = "command-failed"

    def __init__(
        self,
        message: str,
        *,
        stdout: bytes = b"",
        stderr: bytes = b"",
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr
        self.exit_code = exit_code
        self.signal = signal


class CommandTimeout(CommandFailed):
    """Its time was over: it was killed, with everything that it had started."""

    code = "command-timeout"


class HostError(WellheadError):
    """A host cannot do what it was asked; ``status`` is what that is in HTTP, ``code`` the word for it."""

    code = "agent_error"
    status = 502
    detail = "the host failed"


class HostInvalid(HostError):
    """What was asked for breaks a rule."""

    code = "invalid_request"
    status = 400


class HostForbidden(HostError):
    code = "forbidden"
    status = 403


class HostNotFound(HostError):
    """No such sandbox, process, terminal or file here."""

    code = "not_found"
    status = 404


class HostConflict(HostError):
    """It is there already, or is not what the call needs."""

    code = "conflict"
    status = 409


class HostState(HostError):
    """The sandbox's status does not allow it."""

    code = "invalid_state"
    status = 409


class HostTooLarge(HostError):
    code = "too_large"
    status = 413


class HostFull(HostError):
    """No room on the sandbox's disk."""

    code = "no_space"
    status = 507


class HostTimeout(HostError):
    """A process ran longer than it was given; it was killed, with everything that it had started."""

    code = "timeout"
    status = 504


class HostBusy(HostError):
    """No capacity; later perhaps."""

    code = "no_hosts_available"
    status = 503
    retry = Retry.LATER


class HostAway(HostError):
    """The host has no session, or did not answer in time."""

    code = "host_unavailable"
    status = 503
    retry = Retry.LATER


class TemplateNameTaken(HostConflict):
    """A template of that name is there already."""

    code = "template_name_taken"


ApiError.by_status = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: RateLimited,
    503: Unavailable,
}
