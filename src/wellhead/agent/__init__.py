"""The agent: dials out, answers for a tunnel, forwards to an upstream."""

from __future__ import annotations

from wellhead.agent.connecting import connect, connect_async
from wellhead.agent.listener import TunnelListener
from wellhead.net.uplink import Status
from wellhead.net.upstream import Exchange

__all__ = ["Exchange", "Status", "TunnelListener", "connect", "connect_async"]
