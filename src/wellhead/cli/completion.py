"""What Tab offers where a name is expected. A shell is never kept waiting and never shown an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wellhead.errors import WellheadError

if TYPE_CHECKING:
    from wellhead.client import Client

OFFERED_MAX = 200  # names; nobody reads more, and a server with 10,000 would take seconds


def tunnel_names(incomplete: str) -> list[str]:
    """Names of tunnels at the chosen server."""
    return _asked(
        lambda client: [
            tunnel.tunnel_name for tunnel in client.tunnels.page(limit=OFFERED_MAX, prefix=incomplete).items
        ]
    )


def sandbox_ids(incomplete: str) -> list[str]:
    """Ids of sandboxes at the chosen server."""
    ids = _asked(lambda client: [sandbox.id for sandbox in client.sandboxes.list(limit=OFFERED_MAX)])
    return [id for id in ids if id.startswith(incomplete)]


def _asked(question: Callable[[Client], list[str]]) -> list[str]:
    from wellhead.client import Client, Timeouts
    from wellhead.profile import Profile

    quick = Timeouts(connect_seconds=0.5, reply_seconds=1.0, retry_seconds=0)
    try:
        server = Profile.load().resolve()
        with Client(server.url, server.api_key, ca_file=server.ca_file, timeouts=quick) as client:
            return question(client)
    except WellheadError:
        return []


def known_servers(incomplete: str) -> list[str]:
    """Base URLs in the profile."""
    from wellhead.profile import Profile

    try:
        return [url for url in Profile.load().known() if url.startswith(incomplete)]
    except WellheadError:
        return []
