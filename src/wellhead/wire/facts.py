"""What the envelope of a TCP stream says of the visitor behind it.

Source: docs/reference/wire.md, "TCP envelopes".
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.errors import FrameError, HelloError
from wellhead.wire.messages import Members, encode_members

MAX_FACTS = 4096  # bytes


class Facts(NamedTuple):
    """Facts of one connection; a part that nobody told is empty or 0."""

    peer: str = ""  # the visitor's IP address
    peer_port: int = 0
    server_name: str = ""  # of its ClientHello, lower case, without a trailing dot
    listener: str = ""  # ``address:port`` that it came to

    def encode(self) -> bytes:
        """The envelope."""
        return encode_members(self._asdict(), MAX_FACTS)

    @classmethod
    def decode(cls, envelope: bytes) -> Facts:
        """Read an envelope, an empty one too; members that are not known are ignored.

        Raises:
            FrameError: not a JSON object, too long, or a member of a wrong type or out of its range.
        """
        if not envelope:
            return cls()
        try:
            members = Members(envelope, MAX_FACTS)
            return cls(
                peer=members.text("peer", default=""),
                peer_port=members.integer("peer_port", 0, 65535, 0),
                server_name=members.text("server_name", default=""),
                listener=members.text("listener", default=""),
            )
        except HelloError as error:
            raise FrameError(f"facts of a TCP stream: {error}") from error
