"""What may happen to the records that traffic needs, as facts that can be told to a copy of them.

``do`` is how a fact is known on the wire. Digests are SHA-256, 32 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wellhead.model.records import ApiKey, KeyId, TunnelId, TunnelView
from wellhead.model.sandboxes import HostId, HostView, SandboxId, SandboxView


@dataclass(frozen=True, slots=True)
class TunnelPut:
    """A tunnel as it now is."""

    view: TunnelView
    digest: bytes = field(repr=False)  # of the connect secret
    do: Literal["put_tunnel"] = "put_tunnel"


@dataclass(frozen=True, slots=True)
class TunnelDropped:
    """The record is gone; its name may be another's from now on."""

    tunnel: TunnelId
    do: Literal["drop_tunnel"] = "drop_tunnel"


@dataclass(frozen=True, slots=True)
class SessionsEnded:
    """The tunnel's live sessions are to end; whoever has a credential may come back."""

    tunnel: TunnelId
    do: Literal["end_sessions"] = "end_sessions"


@dataclass(frozen=True, slots=True)
class KeyPut:
    """An API key that is good until it expires."""

    key: ApiKey
    handle: str  # its public half
    digest: bytes = field(repr=False)
    do: Literal["put_key"] = "put_key"


@dataclass(frozen=True, slots=True)
class KeyDropped:
    """The key is nobody's, and what lives by it is to end."""

    key: KeyId
    handle: str
    do: Literal["drop_key"] = "drop_key"


@dataclass(frozen=True, slots=True)
class HostPut:
    """A host as it now is."""

    view: HostView
    do: Literal["put_host"] = "put_host"


@dataclass(frozen=True, slots=True)
class HostDropped:
    """The record is gone, and its sessions are to end."""

    host: HostId
    do: Literal["drop_host"] = "drop_host"


@dataclass(frozen=True, slots=True)
class SandboxPut:
    """A sandbox as it now is."""

    view: SandboxView
    do: Literal["put_sandbox"] = "put_sandbox"


@dataclass(frozen=True, slots=True)
class SandboxDropped:
    """Nobody asks for it any more."""

    sandbox: SandboxId
    do: Literal["drop_sandbox"] = "drop_sandbox"


Change = (
    TunnelPut
    | TunnelDropped
    | SessionsEnded
    | KeyPut
    | KeyDropped
    | HostPut
    | HostDropped
    | SandboxPut
    | SandboxDropped
)
