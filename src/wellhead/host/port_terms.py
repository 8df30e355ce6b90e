"""What the operator settles for requests that go to ports of sandboxes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortTerms:
    """``retry_seconds``: for how long a port that refuses is tried again while something may be coming up.
    ``reply_seconds``: until a reply's head. ``idle_seconds``: how long an unused connection is kept.
    ``connections``: most of one sandbox. ``host_header``: ``rewrite`` or ``preserve``, see ``UpstreamPool``.
    """

    retry_seconds: float = 2.0
    dial_seconds: float = 10.0
    reply_seconds: float = 120.0
    idle_seconds: float = 30.0
    connections: int = 512
    host_header: str = "rewrite"
