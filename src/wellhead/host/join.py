"""``join``: from a one-time token to a host of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from wellhead.client import AsyncClient
from wellhead.errors import SettingsError
from wellhead.host import calls
from wellhead.host.capacity import Capacity
from wellhead.host.membership import Membership, alone
from wellhead.model.access import Secret
from wellhead.model.sandboxes import HostId, read_host_id
from wellhead.profile import Connection, Profile


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """``url`` and ``ca_file`` None: as a client finds them, in variables and the profile."""

    state: Path
    token: Secret = field(repr=False)
    url: str | None = None
    ca_file: Path | None = None
    name: str | None = None  # None: that of its record, or else the machine's


async def join(
    options: JoinOptions, runtime: str, capacity: Capacity, templates: Sequence[str] = ()
) -> Membership:
    """Become a host of the server, and keep what that takes before anything else is done with it.

    Raises:
        SettingsError: this machine is a host already, or no server is known.
        LocalStateError: another program has the state directory, or it cannot be written.
        Unauthorized: the token is not good, or not any more.
        LinkError, ApiError: the server cannot be reached, or says no.
    """
    with alone(options.state):
        if (there := Membership.load(options.state)) is not None:
            error = SettingsError(f"this machine is host {there.host_id} of {there.url} already")
            error.add_note("`wellhead host leave` ends that")
            raise error
        server = await asyncio.to_thread(_server, options)
        async with AsyncClient(server.url, Secret(""), ca_file=server.ca_file) as client:
            joined = await client.send(calls.join(options.token, options.name, runtime, capacity, templates))
        membership = Membership(
            server.url, joined.edge or urlsplit(server.url).netloc, HostId(read_host_id(joined.host_id)),
            Secret(joined.key), server.ca_file,
        )  # fmt: skip
        await asyncio.to_thread(membership.save, options.state)
        return membership


def _server(options: JoinOptions) -> Connection:
    return Profile.load().resolve(options.url, Secret(""), options.ca_file)
