"""The edge's end of long replies: streams on a host's interactive lane whose rest comes on the bulk lane."""

from __future__ import annotations

import secrets

from wellhead.edge.hosts import Hosts
from wellhead.edge.registry import Live
from wellhead.errors import SessionLost
from wellhead.model.sandboxes import HostId, Lane
from wellhead.wire.overflow import OverflowReceiver, continuation, offer
from wellhead.wire.streams import Buffer, Sink, Stream, StreamKind


def open_long(
    hosts: Hosts,
    host: HostId,
    door: Live,
    kind: StreamKind,
    envelope: bytes,
    sink: Sink,
    data: Buffer,
    end: bool,
) -> Stream:
    """Open a stream on ``door``, a session of the host; of a long reply the rest comes on another one.

    Where the host has no other session, all of it comes on this one.
    """
    bulk = hosts.door(host, Lane.BULK)
    if bulk is None or bulk is door:
        return door.open(kind, envelope, sink, data, end, interactive=True)
    token = secrets.token_hex(16).encode()

    def more(rest: Sink) -> Stream | None:
        there = hosts.late_door(host, Lane.BULK)  # an edge that drains lets what runs finish
        if there is None:
            return None
        try:
            return there.open_late(StreamKind.HTTP, continuation(token), rest)
        except SessionLost:
            return None

    stream = OverflowReceiver(sink, more)
    stream.main = door.open(kind, offer(envelope, token), stream, data, end, interactive=True)
    return stream
