"""The records at rest.

``Store`` is the only writer; ``store.directory`` is the snapshot of them that traffic asks.
"""

from __future__ import annotations

from wellhead.control.store.store import Store

__all__ = ["Store"]
