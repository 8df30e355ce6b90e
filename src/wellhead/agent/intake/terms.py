"""What an agent on the HTTP/2 carrier allows itself and its edge."""

from __future__ import annotations

from dataclasses import dataclass

from wellhead.errors import InputError
from wellhead.net.session import Liveness
from wellhead.wire.h2 import H2Terms
from wellhead.wire.intake import MAX_POOL

_MIB = 1024 * 1024

PULSE = Liveness(ping_seconds=20.0, pong_seconds=10.0)
ACK_SECONDS = 30.0  # for the edge to acknowledge a whole reply
UPGRADE_SECONDS = 30.0  # for an upgrade, and for its bridge, where the edge names no deadline
TCP_SECONDS = 10.0  # for the edge to bind a TCP bridge
HALF_CLOSE_SECONDS = 5.0  # that a TCP visitor who said all may hear nothing
STOP_SECONDS = 2.0  # for an upstream to answer a Close
CLEAN_UP_SECONDS = 1.0  # for the edge to end a bridge that we have ended
ENVELOPE_SHARE = 2  # of JSON to a message: base64 takes 4/3, escapes of text seldom more

# An edge is trusted more than a stranger. How long a reply may take to leave is its visitor's affair, and
# whether it lives is told by PING.
TERMS = H2Terms(
    window=_MIB,
    connection_window=16 * _MIB,
    max_held=64 * _MIB,
    max_block=128 * 1024,
    max_list=128 * 1024,
    max_list_decoded=256 * 1024,
    max_fields=1000,
    stall_seconds=float("inf"),
    preface_seconds=10,
    settings_seconds=30,
    updates_per_data=64,
    opens_after_warning=True,
)


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """Limits of the agent on the HTTP/2 carrier.

    Those of bodies hold where the edge is not ours: ours takes them as they come, of any length.

    Raises:
        InputError: a number out of its bounds.
    """

    pool: int | None = None  # intakes to park, 1 to 32; None: as many as the edge likes
    max_request_bytes: int = 32 * _MIB
    max_reply_bytes: int = 32 * _MIB
    max_message_bytes: int = 16 * _MIB  # of a WebSocket, either way

    def __post_init__(self) -> None:
        if self.pool is not None and not 1 <= self.pool <= MAX_POOL:
            raise InputError(f"pool of {self.pool} intakes, 1 to {MAX_POOL} allowed")
        for name in ("max_request_bytes", "max_reply_bytes", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
