"""What a visitor is told when we answer ourselves: one short page per status, HTML or JSON by Accept.

A page never repeats what the visitor sent and never shows an address of ours: it has a title, two
sentences, what to do next, and the request id that the log line has too.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

RETRY_SECONDS = 5  # what Retry-After says where nothing better is known
RESTART_SECONDS = 2  # in which a control plane is back


class Page(NamedTuple):
    """``reason`` is the constant word that the log and the metrics carry too.

    ``broken`` is the one of ``stations`` on a request's way at which it ended, "" where none is to blame.
    ``hint`` may hold markup of ours. ``fields``: lines more of the reply.
    """

    status: int
    reason: str
    title: str
    text: str
    hint: str = ""
    broken: str = ""
    retry_seconds: int = RETRY_SECONDS
    location: str = ""  # where else the visitor is to ask
    stations: tuple[str, str, str] = ("server", "agent", "application")
    fields: tuple[tuple[str, str], ...] = ()


UNKNOWN = Page(
    404,
    "unknown-name",
    "There is nothing at this name",
    "No tunnel answers to this hostname.",
    "Check the spelling, or start one with <code>wellhead http 8000</code>",
)
NO_AGENT = Page(
    503,
    "no-agent",
    "The agent is not connected",
    "This tunnel exists, but the program that answers for it is not connected right now.",
    "If it is yours, start the agent again. Everybody else: try again in a moment.",
    "agent",
)
UNSURE = Page(  # and not 404: what is not in the edge's copy of the records may be in the records
    503,
    "records-away",
    "Not sure about this name",
    "No tunnel of this name is known right now, and the records cannot be asked.",
    "Try again in a moment.",
    "server",
    RESTART_SECONDS,
)
CONTROL_AWAY = Page(
    503,
    "control-away",
    "The control plane is restarting",
    "The control plane does not answer right now. Tunnels are served on.",
    "Try again in a moment.",
    "server",
    RESTART_SECONDS,
)
BUSY = Page(503, "overloaded", "Too busy right now", "A limit is reached.", "Try again in a moment.")
TUNNEL_FULL = BUSY._replace(reason="tunnel-connections")
EDGE_FULL = BUSY._replace(reason="max-connections")
EDGE_HOLDS_TOO_MUCH = BUSY._replace(reason="held-bytes")
EDGE_IS_LATE = BUSY._replace(reason="loop-lag")
DRAINING = Page(503, "draining", "Restarting", "This server is being restarted.", "Try again in a moment.")
UNREACHABLE = Page(
    502,
    "upstream-unreachable",
    "The application does not answer",
    "The agent is connected, but nothing accepts connections behind it.",
    "If it is yours, start the application that the agent forwards to.",
    "application",
)
BROKEN = Page(
    502,
    "upstream-failed",
    "The application broke off",
    "The application behind this tunnel closed the connection or sent an answer that is not HTTP.",
    "If it is yours, look at the application's log.",
    "application",
)
LOST = Page(  # 503 and not 502: nobody can be reached at the tunnel, and it may soon be different
    503,
    "agent-lost",
    "The agent went away",
    "The connection to the agent broke before an answer came.",
    "Try again in a moment.",
    "agent",
)
TIMEOUT = Page(
    504,
    "deadline",
    "The application took too long",
    "No answer came from behind this tunnel in time.",
    "Try again, or look at the application's log.",
    "application",
)
MISDIRECTED = Page(
    421, "misdirected", "Wrong connection for this name", "This connection was made for another hostname."
)
PASSED_THROUGH = MISDIRECTED._replace(reason="passthrough")  # we do not speak for it: its TLS ends elsewhere
TLS_ONLY = Page(
    308,
    "plain-passthrough",
    "This name is served over TLS only",
    "The connection is encrypted up to the agent.",
)
NO_CHALLENGE = Page(
    404,
    "no-challenge",
    "Nothing is to be proved here",
    "No certificate authority is expected at this path.",
)
PLAIN_CONTROL = Page(
    421, "plain-control", "Not on this port", "The control plane is not served on a plain port.", "Use https."
)
TOO_MANY = Page(
    429,
    "address-connections",
    "Too many connections",
    "Too many connections from this address.",
    "Try again later.",
)
SLOW = Page(408, "slow-request", "Request took too long", "The request did not arrive in time.")

_BY_STATUS = {
    400: ("Bad request", "The request is not valid HTTP."),
    405: ("Method not allowed", "This method is not served."),
    408: ("Request took too long", "The request did not arrive in time."),
    413: ("Too large", "The request is larger than is allowed here."),
    414: ("Address too long", "The request line is longer than is allowed here."),
    417: ("Expectation failed", "Only 100-continue may be expected."),
    421: ("Wrong connection for this name", "This connection was made for another hostname."),
    426: ("Upgrade required", "WebSocket version 13 is needed."),
    431: ("Header fields too large", "The request's head is larger than is allowed here."),
    501: ("Not implemented", "The request asks for something that is not implemented."),
    505: ("Version not supported", "Only HTTP/1.0 and HTTP/1.1 are served here."),
}


def for_status(status: int, reason: str) -> Page:
    """The page of a request that was refused as it stood; ``reason`` is for log and metrics."""
    title, text = _BY_STATUS.get(status, (_phrase(status), "The request was refused."))
    return Page(status, reason, title, text)


def absolute(origin: str, target: bytes) -> str:
    """Where a target is at an origin (``scheme://authority``), as a Location says it."""
    return origin + (quote_from_bytes(target, _ASCII) if target.startswith(b"/") else "/")


_ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))


def wants_html(fields: bytes) -> bool:
    """Whether a request with this field block prefers HTML: browsers say text/html, programs do not."""
    found = _ACCEPT.search(fields)
    return found is not None and b"text/html" in found[1].lower()


_ACCEPT = re.compile(rb"(?i)(?:^|\n)accept:([^\r\n]*)")


Fields = list[tuple[str, str]]


def compose(page: Page, *, html: bool, request_id: str) -> tuple[Fields, bytes]:
    """The fields and the body of the reply, whatever version of HTTP it goes out in."""
    body = _html(page, request_id) if html else _json(page, request_id)
    fields = [
        ("Content-Type", "text/html; charset=utf-8" if html else "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Request-Id", request_id),
    ]
    styles = "style-src 'unsafe-inline'; " if html else ""
    fields.append(("Content-Security-Policy", f"default-src 'none'; {styles}sandbox"))
    if page.location:
        fields.append(("Location", page.location))
    if page.status in (429, 503):
        fields.append(("Retry-After", str(page.retry_seconds)))
    if page.status == 405:
        fields.append(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    if page.status == 426:
        fields.append(("Sec-WebSocket-Version", "13"))
    fields += page.fields
    return fields, body


def render(page: Page, *, html: bool, request_id: str, close: bool, bodyless: bool = False) -> bytes:
    """The whole HTTP/1.1 reply. ``bodyless`` leaves the body out, for HEAD."""
    fields, body = compose(page, html=html, request_id=request_id)
    if close:
        fields.append(("Connection", "close"))
    lines = [f"HTTP/1.1 {page.status} {_phrase(page.status)}", *(f"{name}: {text}" for name, text in fields)]
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if bodyless else head + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _json(page: Page, request_id: str) -> bytes:
    facts = {
        "status": page.status,
        "reason": page.reason,
        "title": page.title,
        "detail": page.text,
        "request_id": request_id,
    }
    return json.dumps(facts).encode() + b"\n"


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {title}</title><style>
:root{{color-scheme:light dark;--good:#0a7d6c;--bad:#b3261e;--line:#8886}}
@media(prefers-color-scheme:dark){{:root{{--good:#4fd1bd;--bad:#ff8a80}}}}
body{{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;
background:Canvas;color:CanvasText}}
main{{box-sizing:border-box;width:100%;max-width:38rem;padding:2rem}}
h1{{font-size:1.7rem;line-height:1.2;margin:.2rem 0 1rem}}
code,.status,.way,footer{{font-family:ui-monospace,monospace}}
.status{{font-weight:600;font-size:.95rem;color:var(--good)}}
.status.bad{{color:var(--bad)}}
.way{{display:flex;list-style:none;margin:1.6rem 0;padding:0;font-size:.85rem}}
.way li{{flex:1;border-top:3px solid var(--good);padding:.6rem .5rem 0 0}}
.way .bad{{border-top:3px dashed var(--bad);color:var(--bad);font-weight:600}}
.way .far{{border-color:var(--line);opacity:.65}}
.hint{{border-left:3px solid var(--good);padding-left:.9rem}}
footer{{margin-top:2.5rem;font-size:.8rem;opacity:.7}}
</style></head><body><main>
<div class="status{mood}">{status} {phrase}</div><h1>{title}</h1><p>{text}</p>{way}{hint}
<footer>request {request_id} &middot; wellhead</footer></main></body></html>
"""


def _html(page: Page, request_id: str) -> bytes:
    return _TEMPLATE.format(
        status=page.status,
        phrase=_phrase(page.status),
        mood=" bad" if page.status >= 500 else "",
        title=page.title,
        text=page.text,
        way=_way(page),
        hint=f'<p class="hint">{page.hint}</p>' if page.hint else "",
        request_id=request_id,
    ).encode()


def _way(page: Page) -> str:
    """The stations of a request, up to the one that failed and beyond it."""
    if not page.broken:
        return ""
    at = page.stations.index(page.broken)
    marks = [("", "ok")] * at + [(' class="bad"', "no answer")] + [(' class="far"', "not reached")] * 2
    items = [
        f"<li{mark}>{station}<br>{state}</li>"
        for station, (mark, state) in zip(page.stations, marks, strict=False)
    ]
    return f'<ol class="way">{"".join(items)}</ol>'
