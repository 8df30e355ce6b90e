"""What an exchange was, for the access line that whoever serves visitors writes of it."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """What one exchange was. Times are loop seconds; bytes are body bytes."""

    place: str  # "tunnel", "port", "sandbox", "control" or "none"
    name: str  # the tunnel's name, the port's first label, or the sandbox's id
    peer: str
    method: bytes
    target: bytes
    status: int  # what the visitor was told, 0 if nothing
    whole: bool  # False: the reply was cut off
    bytes_in: int
    bytes_out: int
    began: float
    first_byte: float  # 0 if none
    ended: float
    request_id: bytes
    reason: str  # why it failed, a constant word, else empty
    carrier: str = ""  # of the agent's session: "mux", "h2"; empty where no agent was asked


Fields = tuple[str, str, str, bytes, bytes, int, bool, int, int, float, float, float, bytes, str, str]
"""A line before it has names: the exchange appends a plain tuple, which costs half."""
