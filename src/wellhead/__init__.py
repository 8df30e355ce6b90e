"""Wellhead: a public hostname for every agent and every sandbox port.

>>> import wellhead
>>> with wellhead.connect(8000) as listener:
...     print(listener.public_url)
...     listener.wait()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wellhead import errors
from wellhead.version import VERSION as __version__

if TYPE_CHECKING:
    from wellhead.agent import Exchange, Status, TunnelListener, connect, connect_async

__all__ = ["Exchange", "Status", "TunnelListener", "__version__", "connect", "connect_async", "errors"]

_FROM_AGENT = frozenset({"Exchange", "Status", "TunnelListener", "connect", "connect_async"})


def __getattr__(name: str) -> object:
    # The agent is imported when it is first asked for: the server and ``wellhead --version`` do without it.
    if name in _FROM_AGENT:
        from wellhead import agent

        return getattr(agent, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
