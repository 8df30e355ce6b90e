"""Wellhead: a public hostname for every agent and every sandbox port.

>>> import wellhead
>>> with wellhead.connect(8000) as listener:
...     print(listener.public_url)
...     listener.wait()

>>> with wellhead.Wellhead() as server:
...     print(server.tunnels.create("my-agent").connect_secret.reveal())
...     with server.sandboxes.create() as sandbox:
...         print(sandbox.exec("uname -a").text)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from wellhead import errors
from wellhead.version import VERSION as __version__

if TYPE_CHECKING:
    from wellhead.agent import Exchange, Status, TunnelListener, connect, connect_async
    from wellhead.client import CreatedKey, CreatedTunnel, Page, Timeouts
    from wellhead.client.exec_streams import AsyncExecStream, ExecStream
    from wellhead.client.host_calls import CreatedHost
    from wellhead.client.sandbox_records import (
        Channel,
        ExecResult,
        Exit,
        FileEntry,
        FileType,
        MetricPoint,
        Output,
        PortInfo,
        PortLink,
        ProcessInfo,
        SandboxInfo,
    )
    from wellhead.client.sandboxes import AsyncSandbox, Sandbox
    from wellhead.client.terminals import AsyncTerminal, Terminal
    from wellhead.inprocess.context import Context
    from wellhead.inprocess.conversation import WebSocket
    from wellhead.inprocess.request import Request, SyncRequest
    from wellhead.inprocess.response import Response
    from wellhead.model.access import Scope, Secret
    from wellhead.model.certificates import (
        CertificateRecord,
        CertificateStatus,
        ServerCertificate,
        SignedCertificate,
    )
    from wellhead.model.records import (
        AuditEntry,
        Identity,
        KeyRecord,
        KeyStatus,
        TlsMode,
        Tunnel,
        TunnelStatus,
    )
    from wellhead.model.sandbox_records import Host, SandboxTemplate
    from wellhead.model.sandboxes import HostStatus, SandboxStatus
    from wellhead.model.visibility import Visibility
    from wellhead.sdk import AsyncWellhead, Wellhead

__all__ = [
    "AsyncExecStream",
    "AsyncSandbox",
    "AsyncTerminal",
    "AsyncWellhead",
    "AuditEntry",
    "CertificateRecord",
    "CertificateStatus",
    "Channel",
    "Context",
    "CreatedHost",
    "CreatedKey",
    "CreatedTunnel",
    "Exchange",
    "ExecResult",
    "ExecStream",
    "Exit",
    "FileEntry",
    "FileType",
    "Host",
    "HostStatus",
    "Identity",
    "KeyRecord",
    "KeyStatus",
    "MetricPoint",
    "Output",
    "Page",
    "PortInfo",
    "PortLink",
    "ProcessInfo",
    "Request",
    "Response",
    "Sandbox",
    "SandboxInfo",
    "SandboxStatus",
    "SandboxTemplate",
    "Scope",
    "Secret",
    "ServerCertificate",
    "SignedCertificate",
    "Status",
    "SyncRequest",
    "Terminal",
    "Timeouts",
    "TlsMode",
    "Tunnel",
    "TunnelListener",
    "TunnelStatus",
    "Visibility",
    "WebSocket",
    "Wellhead",
    "__version__",
    "connect",
    "connect_async",
    "errors",
]

_HOMES = {
    "wellhead.inprocess.context": ("Context",),
    "wellhead.inprocess.conversation": ("WebSocket",),
    "wellhead.inprocess.request": ("Request", "SyncRequest"),
    "wellhead.inprocess.response": ("Response",),
    "wellhead.agent": ("Exchange", "Status", "TunnelListener", "connect", "connect_async"),
    "wellhead.client": ("CreatedKey", "CreatedTunnel", "Page", "Timeouts"),
    "wellhead.client.exec_streams": ("AsyncExecStream", "ExecStream"),
    "wellhead.client.host_calls": ("CreatedHost",),
    "wellhead.client.sandbox_records": (
        "Channel",
        "ExecResult",
        "Exit",
        "FileEntry",
        "FileType",
        "MetricPoint",
        "Output",
        "PortInfo",
        "PortLink",
        "ProcessInfo",
        "SandboxInfo",
    ),
    "wellhead.client.sandboxes": ("AsyncSandbox", "Sandbox"),
    "wellhead.client.terminals": ("AsyncTerminal", "Terminal"),
    "wellhead.model.access": ("Scope", "Secret"),
    "wellhead.model.sandbox_records": ("Host", "SandboxTemplate"),
    "wellhead.model.sandboxes": ("HostStatus", "SandboxStatus"),
    "wellhead.model.visibility": ("Visibility",),
    "wellhead.model.certificates": (
        "CertificateRecord",
        "CertificateStatus",
        "ServerCertificate",
        "SignedCertificate",
    ),
    "wellhead.model.records": (
        "AuditEntry",
        "Identity",
        "KeyRecord",
        "KeyStatus",
        "TlsMode",
        "Tunnel",
        "TunnelStatus",
    ),
    "wellhead.sdk": ("AsyncWellhead", "Wellhead"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    # Each is imported when it is first asked for: the server and ``wellhead --version`` do without them.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
