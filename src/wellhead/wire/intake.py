"""The HTTP/2 carrier's bytes, both directions: the one door to the modules that know them.

::

    edge    envelope_fields, tcp_fields ══ intake's answer ══> read_envelope_fields      agent
            reply_head  <══ POST /_system/response ══  reply_fields
            intake_ws, ws_messages  <══ CONNECT /_system/ws ══>  intake_ws, ws_messages

Source: docs/reference/h2-carrier.md.
"""

from wellhead.wire.hpack import Fields
from wellhead.wire.intake_calls import (
    API_KEY,
    HELLO_PATH,
    INTAKE_PATH,
    RESPONSE_PATH,
    SECRET,
    TCP_PATH,
    TCP_PROTOCOL,
    WEBSOCKET_PATH,
    WEBSOCKET_PROTOCOL,
    Caller,
)
from wellhead.wire.intake_envelope import (
    envelope_block,
    envelope_fields,
    envelope_parts,
    expects_continue,
    tcp_fields,
    websocket_key,
)
from wellhead.wire.intake_hello import MAX_POOL, Hello, Ours
from wellhead.wire.intake_parcel import EnvelopeError, Parcel, ParcelReader, read_envelope_fields
from wellhead.wire.intake_reply import ReplyRead, ReplyReader, reply_fields, reply_head

__all__ = [
    "API_KEY",
    "HELLO_PATH",
    "INTAKE_PATH",
    "MAX_POOL",
    "RESPONSE_PATH",
    "SECRET",
    "TCP_PATH",
    "TCP_PROTOCOL",
    "WEBSOCKET_PATH",
    "WEBSOCKET_PROTOCOL",
    "Caller",
    "EnvelopeError",
    "Fields",
    "Hello",
    "Ours",
    "Parcel",
    "ParcelReader",
    "ReplyRead",
    "ReplyReader",
    "envelope_block",
    "envelope_fields",
    "envelope_parts",
    "expects_continue",
    "read_envelope_fields",
    "reply_fields",
    "reply_head",
    "tcp_fields",
    "websocket_key",
]
