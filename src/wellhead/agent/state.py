"""What an agent keeps of a tunnel between two runs: its id and its connect secret.

``$WELLHEAD_HOME/tunnels/{name}/state.json``, 0600 in directories of 0700, the same for every SDK::

    {
      "name": "my-agent",
      "servers": {
        "https://localhost:8443": {"connect_secret": "whs_…", "tunnel_id": "0d4f…"}
      },
      "version": 1
    }

A secret belongs to the server that gave it and is offered to no other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.model.access import Secret
from wellhead.model.names import check_name
from wellhead.model.records import TunnelId

VERSION = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a tunnel at one server."""

    tunnel_id: TunnelId
    connect_secret: Secret | None = None  # None: the server shows it once, to whoever creates


class TunnelState:
    """The state file of the tunnel ``name`` under ``home``.

    Raises:
        InputError: not a tunnel's name; nothing outside ``tunnels/`` can be named.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self._name = check_name(name)

    @property
    def path(self) -> Path:
        return self.home / "tunnels" / self._name / "state.json"

    def load(self, url: str) -> Kept | None:
        """What is kept for the server at this base URL; None where nothing is.

        Raises:
            LocalStateError: the file or its directory is unsafe, or the content is damaged.
        """
        entry = self._servers().get(url)
        if entry is None:
            return None
        tunnel_id, secret = entry.get("tunnel_id"), entry.get("connect_secret")
        if not isinstance(tunnel_id, str) or not isinstance(secret, str | None):
            raise self._damaged("a field has the wrong type")
        return Kept(TunnelId(tunnel_id), None if secret is None else Secret(secret))

    def save(self, url: str, kept: Kept) -> None:
        """Keep it, whole or not at all: synced before it takes the old file's place.

        Raises:
            LocalStateError: unsafe, damaged, or it cannot be written (the old content survives).
        """
        for directory in (self.home, self.home / "tunnels", self.path.parent):
            private.make_directory(directory)
        servers = self._servers()
        entry: dict[str, object] = {"tunnel_id": str(kept.tunnel_id)}
        if kept.connect_secret is not None:
            entry["connect_secret"] = kept.connect_secret.reveal()
        servers[url] = entry
        content = {"version": VERSION, "name": self._name, "servers": servers}
        private.write(self.path, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def _servers(self) -> dict[str, dict[str, object]]:
        if not self.path.parent.exists() and not self.path.parent.is_symlink():
            return {}
        for directory in (self.home / "tunnels", self.path.parent):
            private.check_directory(directory)
        text = private.read(self.path)
        if text is None:
            return {}
        try:
            content = json.loads(text)
        except ValueError as error:
            raise self._damaged("it is not JSON") from error
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise self._damaged(f"it is not of version {VERSION}")
        servers = content.get("servers")
        if not isinstance(servers, dict) or not all(isinstance(entry, dict) for entry in servers.values()):
            raise self._damaged("servers is not a table")
        return servers

    def _damaged(self, why: str) -> LocalStateError:
        return LocalStateError(
            f"{self.path} is damaged: {why}; move it away to go on with an API key in its place"
        )
