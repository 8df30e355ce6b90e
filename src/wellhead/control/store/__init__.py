"""The records at rest, and the read-only view of them in memory.

``Store`` is the only writer; ``store.directory`` is what the edge asks, as its ``Directory``.
"""

from __future__ import annotations

from wellhead.control.store.snapshot import Snapshot
from wellhead.control.store.store import Store

__all__ = ["Snapshot", "Store"]
