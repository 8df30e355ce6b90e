"""What a visitor of a sandbox's port is told when we answer ourselves.

Nothing of the sandbox, its host or its application stands in these pages but the word of its status.
"""

from __future__ import annotations

from collections.abc import Mapping

from wellhead.model.sandboxes import SandboxStatus
from wellhead.visitors import pages
from wellhead.visitors.pages import RESTART_SECONDS, RETRY_SECONDS, Page
from wellhead.wire.streams import Reason

_STATIONS = ("server", "host", "application")

BAD_PORT = Page(400, "port-number", "No such port", "A port is a number from 1 to 65535, in plain digits.")
BAD_SANDBOX = Page(400, "sandbox-id", "Not a sandbox", "This name holds no id of a sandbox.")
DENIED = Page(403, "port-denied", "This port is not served", "It is not for visitors, in any sandbox.")
UNKNOWN = Page(
    404,
    "unknown-sandbox",
    "There is no such sandbox",
    "No sandbox has this name.",
    "Check the spelling, or look with <code>wellhead sandbox list</code>",
)
UNSURE = Page(  # and not 404: what is not in the edge's copy of the records may be in the records
    503,
    "records-away",
    "Not sure about this sandbox",
    "No sandbox of this name is known right now, and the records cannot be asked.",
    "Try again in a moment.",
    "server",
    RESTART_SECONDS,
    stations=_STATIONS,
)
HOST_AWAY = Page(
    503,
    "host-away",
    "The sandbox's host is not connected",
    "The sandbox exists, but the machine that runs it is not connected right now.",
    "Try again in a moment.",
    "host",
    stations=_STATIONS,
)
HOST_LOST = HOST_AWAY._replace(
    reason="host-lost",
    title="The sandbox's host went away",
    text="The connection to the machine that runs the sandbox broke before an answer came.",
)
NOT_HERE = HOST_AWAY._replace(
    reason="sandbox-away",
    title="The sandbox is not ready",
    text="The machine that runs the sandbox does not have it running right now.",
)
RESUMING = Page(
    503,
    "sandbox-resuming",
    "The sandbox is being resumed",
    "The sandbox was paused. It is being resumed for this request, which takes longer than usual.",
    "Try again in a moment.",
    "host",
    stations=_STATIONS,
)
BUSY = pages.BUSY._replace(reason="sandbox-busy", text="The sandbox has too much to do.")
FULL = BUSY._replace(reason="sandbox-exchanges")
NO_KEY = Page(
    401,
    "port-key",
    "This port is not public",
    "It takes a signed link, or an API key in X-API-Key or as a bearer token.",
    "Ask its owner for a link. If it is yours, make one: <code>wellhead sandbox share</code>",
    fields=(("WWW-Authenticate", "Bearer"),),
)
BAD_KEY = NO_KEY._replace(
    title="This key is not good",
    text="The API key that was shown is unknown, has expired or was revoked.",
)
LINK_OVER = NO_KEY._replace(
    reason="port-link",
    title="This link is not good any more",
    text="It has expired, was revoked, or is for another port; the port is not public.",
)
FOREIGN_PAGE = Page(
    403,
    "port-origin",
    "Not from another page",
    "A page of another site may not use what this browser may see here.",
)
# No refusal: whoever comes with a link in the address goes on without it, and keeps a cookie.
LINK_TAKEN = Page(
    303, "link-taken", "This way", "The link was taken; the page is at the same address without it."
)
KEY_ONLY = NO_KEY._replace(
    text="It takes an API key, in X-API-Key or as a bearer token.",
    hint="Links are for the port's own name, <code>{port}-{sandbox}</code>.",
)
NO_PORT_NAMED = Page(
    404, "path-form", "No port is named here", "Below this name are ports: /{sandbox}/{port}/ and its path."
)
SLASH_MISSING = Page(308, "path-slash", "This way", "A port's path begins with a slash.")
FOREIGN_KEY = Page(
    403, "port-scope", "Not with this key", "This key is valid, but not for the ports of this sandbox."
)
WRONG_KEYS = Page(429, "api-failures", "Too many wrong keys", "Too many wrong keys from this network.")
CLOSED = Page(
    502,
    "port-closed",
    "Nothing listens on this port",
    "The sandbox runs, but no program in it accepts connections on this port.",
    "If it is yours, start a server there; <code>wellhead sandbox ports</code> lists the open ones.",
    "application",
    stations=_STATIONS,
)
BROKE = Page(
    502,
    "app-broke",
    "The application broke off",
    "The application on this port closed the connection or sent an answer that is not HTTP.",
    "If it is yours, look at the application's log.",
    "application",
    stations=_STATIONS,
)
LATE = Page(
    504,
    "app-late",
    "The application took too long",
    "No answer came from this port in time.",
    "Try again, or look at the application's log.",
    "application",
    stations=_STATIONS,
)
GONE = Page(409, "sandbox-not-running", "The sandbox is over", "The sandbox was ended.")

_RESUME = "If it is yours, let it go on: <code>wellhead sandbox resume</code>"
NOT_RUNNING: Mapping[SandboxStatus, Page] = {
    status: Page(
        409,
        "sandbox-not-running",
        "The sandbox does not run",
        f"The sandbox is {status.value}; its ports are served while it runs.",
        _RESUME if status is SandboxStatus.PAUSED else "",
        retry_seconds=RETRY_SECONDS,
    )
    for status in SandboxStatus
}

# What a stream that is reset before its reply comes to.
OF_RESET: Mapping[int, Page] = {
    Reason.REFUSED: NOT_HERE,
    Reason.UPSTREAM_UNREACHABLE: CLOSED,
    Reason.UPSTREAM_FAILED: BROKE,
    Reason.TIMEOUT: LATE,
    Reason.OVERLOADED: BUSY,
    Reason.SESSION_LOST: HOST_LOST,
    Reason.REMOVED: GONE,
}

# In place of a tunnel's page of this reason.
INSTEAD: Mapping[str, Page] = {pages.TIMEOUT.reason: LATE, pages.BROKEN.reason: BROKE}
