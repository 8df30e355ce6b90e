"""What visitors' exchanges with one tunnel share."""

from __future__ import annotations

from wellhead.wire.headers import ReplyFacts

MEMO_MAX = 4 * 1024  # longest reply head that is remembered, bytes
_NO_REPLY = ReplyFacts(0, None, True, False, b"", b"")


class Memo:
    """How many exchanges a tunnel carries now, and its last reply head."""

    __slots__ = ("exchanges", "reply_facts", "reply_head", "reply_method")

    def __init__(self) -> None:
        self.exchanges = 0
        # The last reply head of the tunnel and what it was found to say: reading one is a pure function.
        self.reply_head = b""
        self.reply_method = b""
        self.reply_facts = _NO_REPLY

    def remember(self, head: bytes, method: bytes, facts: ReplyFacts) -> None:
        """Keep what a reply head says, for the next reply that repeats it byte for byte."""
        if len(head) <= MEMO_MAX:
            self.reply_head, self.reply_method, self.reply_facts = head, method, facts
