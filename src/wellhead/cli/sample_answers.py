"""What the server that is made up has and answers, for ``samples``."""

from __future__ import annotations

SANDBOX_ID = "cl-4mxxb522covqurwjsiwd2ypgv"
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
    "agent_version": "wellhead-python/0.1.0",
    "agent_identity_id": _ID,
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
    "agent_version": None,
}
_KEY: dict[str, object] = {
    "id": "51a0f7a2-2f4d-4c9b-b7f6-90c1e1c0a9d4",
    "organization_id": _TUNNEL["organization_id"],
    "label": "build server",
    "scopes": [f"tunnel:{_ID}"],
    "status": "active",
    "display_prefix": "wh_EXAMPLE0",
    "last4": "4b7Q",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "expires_at": "2030-01-31T00:00:00Z",
    "scoped_identity_id": _ID,
    "created_by": "0c1d2e3f-5a6b-4c7d-8e9f-a0b1c2d3e4f5",
}
_FIRST_KEY = _KEY | {
    "id": "0c1d2e3f-5a6b-4c7d-8e9f-a0b1c2d3e4f5",
    "label": "",
    "scopes": ["admin"],
    "last4": "x0Zk",
    "expires_at": None,
    "scoped_identity_id": None,
    "created_by": "server",
}
_IDENTITY: dict[str, object] = {
    "id": _ID,
    "organization_id": _TUNNEL["organization_id"],
    "agent_handle": "my-agent",
    "display_name": "Team agent",
    "description": "the team notebook",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "tunnel": _TUNNEL,
}
_CERTIFICATE: dict[str, object] = {
    "id": "b1d4c8de-3c39-4a3e-8f2b-6f0f5c0f9a11",
    "organization_id": _TUNNEL["organization_id"],
    "tunnel_id": _ID,
    "hostname": "my-agent.localhost",
    "issuer": "local",
    "status": "issued",
    "serial": "1f6a2b9c0d3e4f58",
    "fingerprint_sha256": "28b9aed67992" + "0" * 52,
    "issued_at": "2026-01-31T12:00:00Z",
    "not_before": "2026-01-31T11:00:00Z",
    "expires_at": "2026-05-01T12:00:00Z",
    "days_left": 90.0,
    "renew_at": "2026-04-01T12:00:00Z",
}
_HOST: dict[str, object] = {
    "id": "host-0m1xqg8kq0k1y8m0p8nq3s5z7",
    "organization_id": _TUNNEL["organization_id"],
    "name": "big-one",
    "status": "online",
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T12:00:00Z",
    "runtime": "namespace",
    "vcpus": 16,
    "memory_mb": 24576,
    "disk_mb": 409600,
    "templates": ["minimal", "minimal-ubuntu", "python"],
    "agent": "wellhead-host/0.1.0",
    "address": "192.0.2.9",
    "last_seen_at": "2026-01-31T12:30:00Z",
    "sandboxes": 1,
}
_NEW_HOST = {key: _HOST[key] for key in ("id", "organization_id", "name", "created_at", "updated_at")}
_PORTS_URL = f"https://{{port}}-{SANDBOX_ID}.localhost:8443"
_SANDBOX: dict[str, object] = {
    "id": SANDBOX_ID,
    "organization_id": _TUNNEL["organization_id"],
    "status": "running",
    "template": "python",
    "vcpus": 1,
    "memory_mb": 512,
    "disk_size_mb": 5120,
    "timeout_sec": 3600,
    "created_at": "2026-01-31T12:00:00Z",
    "last_updated": "2026-01-31T12:00:00Z",
    "host_id": _HOST["id"],
    "metadata": {"team": "blue"},
    "port_visibility": {"8000": "public"},
    "url": _PORTS_URL,
}
_PORT: dict[str, object] = {
    "port": 8000,
    "address": "127.0.0.1",
    "pid": 31,
    "command": "python3",
    "argv": ["python3", "-m", "http.server"],
    "user": "wrenn-user",
}
_LINK: dict[str, object] = {
    "url": f"{_PORTS_URL.replace('{port}', '3000')}/?wellhead_link=EXAMPLE",
    "port": 3000,
    "expires_at": "2026-01-31T13:00:00Z",
}
_PROCESS: dict[str, object] = {
    "pid": 27,
    "tag": "job",
    "cmd": "make",
    "args": ["test"],
    "kind": "background",
    "user": "wrenn-user",
    "started_at": 1769860800,
}
ANSWERS: dict[str, object] = {
    "POST /sandboxes": _SANDBOX,
    "GET /sandboxes": [_SANDBOX],
    f"GET /sandboxes/{SANDBOX_ID}": _SANDBOX,
    f"POST /sandboxes/{SANDBOX_ID}/pause": _SANDBOX | {"status": "paused"},
    f"GET /sandboxes/{SANDBOX_ID}/processes": {"processes": [_PROCESS]},
    f"PATCH /sandboxes/{SANDBOX_ID}": _SANDBOX | {"port_visibility": {"3000": "public"}},
    f"GET /sandboxes/{SANDBOX_ID}/ports": {"ports": [_PORT]},
    f"POST /sandboxes/{SANDBOX_ID}/links": _LINK,
    f"POST /sandboxes/{SANDBOX_ID}/exec": {"pid": 27, "tag": "job"},
    f"DELETE /sandboxes/{SANDBOX_ID}": None,
    "POST /hosts": {
        "host": _NEW_HOST | {"status": "pending"},
        "token": "wht_EXAMPLE",
        "expires_at": "2026-01-31T13:00:00Z",
    },
    "GET /hosts": [_HOST],
    f"PATCH /hosts/{_HOST['id']}": _HOST | {"status": "draining"},
    "GET /tunnels/": {"tunnels": [_TUNNEL, _OLD]},
    "POST /tunnels/": {"tunnel": _NEW, "connect_secret": "whs_EXAMPLE"},
    f"PATCH /tunnels/{_ID}": _TUNNEL,
    f"DELETE /tunnels/{_ID}": _LEAVING,
    f"POST /tunnels/{_ID}/restore": _TUNNEL,
    f"DELETE /tunnels/{_ID}/force": _LEAVING | {"status": "deleted"},
    f"POST /tunnels/{_ID}/rotate-secret": {"connect_secret": "whs_EXAMPLE"},
    "GET /server-certificates/": {
        "certificates": [
            {
                "name": "*.tunnels.example.com",
                "expires_at": "2026-05-01T12:00:00Z",
                "days_left": 61.2,
                "failures": 0,
                "reason": "",
            }
        ]
    },
    "GET /certificates/": {"certificates": [_CERTIFICATE]},
    f"POST /certificates/{_CERTIFICATE['id']}/renew": _CERTIFICATE,
    "GET /identities/": [_IDENTITY],
    "POST /identities/": _IDENTITY | {"tunnel": _NEW},
    "GET /identities/my-agent": _IDENTITY,
    "DELETE /identities/my-agent": None,
    "GET /keys/": {"keys": [_FIRST_KEY, _KEY]},
    "POST /keys/": {"api_key": "wh_EXAMPLE", "record": _KEY},
    f"DELETE /keys/{_KEY['id']}": _KEY | {"status": "revoked", "revoked_at": "2026-02-01T12:00:00Z"},
}
