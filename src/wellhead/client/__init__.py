"""The REST client, sync and async.

>>> with Client("https://localhost:8443", Secret("wh_…"), ca_file=Path("ca.pem")) as client:
...     client.tunnels.create("my-agent")
"""

from __future__ import annotations

from wellhead.client.calls import Page
from wellhead.client.client import AsyncClient, Client
from wellhead.client.organization_calls import CreatedKey
from wellhead.client.patience import Timeouts
from wellhead.client.tunnel_calls import CreatedTunnel

__all__ = ["AsyncClient", "Client", "CreatedKey", "CreatedTunnel", "Page", "Timeouts"]
