"""What happens to HTTP fields on their way: the one door to the only code that drops or adds any.

::

    visitor ── request.read_request_fields ─> request.request_envelope ══> envelope.read_envelope
                                                                              │ HostPolicy.request_head
    visitor <─ reply.visitor_head <─ reply.read_reply <══ reply.reply_head <─ upstream

==========================  ===================================================================
dropped, both ways          Connection and what it nominates, Keep-Alive, Proxy and Proxy-*, TE
                            (but ``trailers`` of a request), Trailer, Transfer-Encoding, Upgrade,
                            HTTP2-Settings; what only this house may say: Wellhead-*,
                            X-Wellhead-*, Inkbox-*, X-Tunnel-Id and its kin
dropped from requests       Forwarded, X-Forwarded-*, X-Real-IP and its kin, X-Request-Id; written
                            anew by the edge (``edge_fields``, ``request_envelope``)
refused in requests         any of these spelled with an underscore
dropped from replies        Alt-Svc: it would lead visitors past the edge; ``Domain`` of a cookie, and
                            cookies in our names (``cookies.confined``)
written anew                Host, Content-Length, Expect, the framing of each hop
==========================  ===================================================================

Everything else travels byte for byte and in order.
"""

from wellhead.wire.envelope import Envelope, HostPolicy, read_envelope
from wellhead.wire.fields import read_trailers
from wellhead.wire.reply import (
    ReplyFacts,
    VisitorHead,
    read_interim,
    read_reply,
    reply_head,
    visitor_head,
)
from wellhead.wire.request import RequestFields, edge_fields, read_request_fields, request_envelope

__all__ = [
    "Envelope",
    "HostPolicy",
    "ReplyFacts",
    "RequestFields",
    "VisitorHead",
    "edge_fields",
    "read_envelope",
    "read_interim",
    "read_reply",
    "read_request_fields",
    "read_trailers",
    "reply_head",
    "request_envelope",
    "visitor_head",
]
