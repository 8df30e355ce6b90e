"""What each verb prints, for the reference page: the verbs themselves, asking a server that is made up."""

from __future__ import annotations

import contextlib
import io
import shlex
from typing import TYPE_CHECKING, TypeVar

from wellhead.cli.asking import OPENER
from wellhead.client import Client
from wellhead.model.access import Secret

if TYPE_CHECKING:
    from wellhead.client.calls import Call

T = TypeVar("T")

LINES = (
    "wellhead tunnels list",
    "wellhead tunnels get my-agent",
    "wellhead tunnels get my-agent --json",
    "wellhead tunnels create my-agent --description 'the team notebook'",
    "wellhead tunnels update my-agent --description 'the team notebook'",
    "wellhead tunnels delete my-agent --yes",
    "wellhead tunnels restore my-agent",
)

_ID = "0f5f9a6e-4a0b-4c53-9d1e-2f7b6a1c8e90"
_TUNNEL: dict[str, object] = {
    "id": _ID,
    "organization_id": "6d6b1a52-7a35-4d0c-8f6e-0b9a3c2d1e4f",
    "tunnel_name": "my-agent",
    "tls_mode": "edge",
    "status": "active",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "public_host": "my-agent.localhost",
    "zone": "localhost",
    "public_urls": ["https://my-agent.localhost:8443", "http://my-agent.localhost:8080"],
    "description": "the team notebook",
    "metadata": {"team": "blue"},
    "currently_connected": True,
    "last_connected_at": "2026-01-31T12:30:00Z",
    "last_disconnected_at": "2026-01-31T12:29:58Z",
    "last_connected_ip_addr": "192.0.2.7",
}
_LEAVING = _TUNNEL | {
    "status": "delete_pending",
    "currently_connected": False,
    "restore_deadline_at": "2026-02-01T13:00:00Z",
}
_OLD = _LEAVING | {
    "tunnel_name": "old-agent",
    "public_urls": ["https://old-agent.localhost:8443", "http://old-agent.localhost:8080"],
}
_NEW = _TUNNEL | {
    "metadata": {},
    "currently_connected": False,
    "last_connected_at": None,
    "last_disconnected_at": None,
    "last_connected_ip_addr": None,
}
_ANSWERS: dict[str, object] = {
    "GET /tunnels/": {"tunnels": [_TUNNEL, _OLD]},
    "POST /tunnels/": {"tunnel": _NEW, "connect_secret": "whs_EXAMPLE"},
    f"PATCH /tunnels/{_ID}": _TUNNEL,
    f"DELETE /tunnels/{_ID}": _LEAVING,
    f"POST /tunnels/{_ID}/restore": _TUNNEL,
}


class _MadeUp(Client):
    """Answers as a server would that has what stands above."""

    def send(self, call: Call[T], /) -> T:
        return call.read(_ANSWERS[f"{call.method} {call.path}"])


def printed(line: str) -> str:
    """What a command line prints."""
    from wellhead.cli.main import run

    before = OPENER.set(lambda ask: _MadeUp("https://localhost:8443", Secret("wh_EXAMPLE")))
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = run(shlex.split(line)[1:])
    finally:
        OPENER.reset(before)
    assert code == 0, line
    return out.getvalue()
