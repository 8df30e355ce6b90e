"""The host's end of long replies: what is beyond the first stream's allowance leaves on a second one.

Where a host has one session left, terminals share it with everything else: what they write goes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from wellhead.wire.muxstream import MuxStream
from wellhead.wire.overflow import OverflowSender, continued, take_offer
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

Accept = Callable[[Stream, StreamKind, bytes, Buffer, bool], None]
_is_terminal = re.compile(rb"GET /sandboxes/[^/ ]++/pty[? ]").match


class Overflow:
    """Stands before ``accept``, which answers streams and never knows. One for all sessions of a host."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._senders: dict[bytes, OverflowSender] = {}  # by token: those that may want a second stream

    def accept(self, opened: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream that the edge opened."""
        wanted = continued(envelope)
        if wanted is not None:
            sender = self._senders.get(wanted)
            if sender is None or not sender.wants_more:
                opened.reset(Reason.REFUSED)
            else:
                sender.go_on(opened)
            return
        stream: Stream = opened
        envelope, token = take_offer(envelope)
        if token:
            stream = self._senders[token] = OverflowSender(opened, lambda: self._forget(token))
        elif _is_terminal(envelope):
            opened.mark_interactive()
        self._accept(stream, kind, envelope, data, end)

    def _forget(self, token: bytes) -> None:
        self._senders.pop(token, None)
