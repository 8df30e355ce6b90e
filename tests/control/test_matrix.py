"""Every route for every kind of caller: made from the routes themselves, so that none is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route as StarletteRoute

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import signing_of
from tests.kit.csr import pem_for
from tests.kit.fake_hosts import MACHINE, FakeHost
from wellhead.control import dialect
from wellhead.control.fleet import Fleet
from wellhead.control.issuing import Issuer
from wellhead.control.store import Store
from wellhead.model import access
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret
from wellhead.model.records import SERVER, OrganizationId, TlsMode
from wellhead.model.sandboxes import new_host_id, new_sandbox_id
from wellhead.settings import ServerSettings

STRANGERS = ("none", "malformed", "unknown", "revoked", "expired", "connect secret", "two keys")
KEYS = ("own tunnel", "another tunnel", "own host", "other organization", "admin")
OPEN = {"healthz", "revocation_list", "docs_page", "openapi"}
ADMINS = {
    "create_tunnel",
    "list_keys",
    "create_key",
    "create_identity",
    "list_audit",
    "create_sandbox",
    "list_sandboxes",
    "sandbox_stats",
    "sandbox_usage",
    "list_snapshots",
    "stream_events",
    "create_host",
    "list_hosts",
}  # 403 for whoever is not
OF_THE_SERVER = {  # for the organization that it was set up with; there is no certificate to renew
    "list_server_certificates": 200,
    "renew_server_certificate": 404,
}
MEMBERS = {
    "list_tunnels",
    "list_identities",
    "list_certificates",
    "whoami",
}  # answered for every key, with what it may see
OF_A_KEY = {"get_key", "revoke_key"}
OF_A_SANDBOX = {
    "get_sandbox",
    "update_sandbox",
    "ping_sandbox",
    "pause_sandbox",
    "resume_sandbox",
    "create_sandbox_link",
    "revoke_sandbox_links",
    "destroy_sandbox",
    "create_snapshot",
    "delete_snapshot",
    "get_host",
    "update_host",
    "delete_host",
}  # and of its host
READS_OF_A_TUNNEL = {"get_tunnel", "get_certificate", "get_identity"}
FOR_A_TUNNEL = {"sign_csr"}  # for whoever answers for it
WRITES_OF_A_TUNNEL = {
    "update_tunnel",
    "delete_tunnel",
    "restore_tunnel",
    "force_delete_tunnel",
    "rotate_secret",
    "renew_certificate",
    "update_identity",
    "delete_identity",
}
LAST = (  # what is asked of the tunnel, the sandbox or the host after it is answered otherwise
    "destroy_sandbox",
    "delete_snapshot",
    "delete_host",
    "delete_identity",
)
CSR = pem_for("my-agent.example.org")
BODIES: dict[str, dict[str, object]] = {
    "sign_csr": {"csr_pem": CSR},
    "renew_server_certificate": {"name": "example.org"},
    "create_tunnel": {"tunnel_name": "made-here"},
    "update_tunnel": {"description": "x"},
    "create_key": {"label": "x", "scopes": ["admin"]},
    "create_identity": {"agent_handle": "made-here-too"},
    "update_identity": {"display_name": "x"},
    "create_sandbox": {},
    "update_sandbox": {"metadata": {"a": "b"}},
    "create_sandbox_link": {"port": 3000},
    "create_host": {},
    "update_host": {"draining": False},
    "join_host": {**MACHINE, "token": "0" * 64, "runtime": "process"},
    "report_host": {**MACHINE, "boot": "b", "sandboxes": []},
}


@dataclass(frozen=True)
class Route:
    method: str
    template: str
    operation: str


def routes(app: FastAPI) -> list[Route]:
    return [
        Route(method, prefix + route.path_format, getattr(route, "operation_id", None) or route.name)
        for prefix, route in routed(app.routes)
        for method in sorted(route.methods or ())
    ]


def routed(found: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, StarletteRoute]]:
    """What the app answers, described in its document or not, with what stands before its path."""
    for route in found:
        if isinstance(route, StarletteRoute):
            yield prefix, route
        else:
            yield from routed(route.original_router.routes, prefix + route.include_context.prefix)


def expected(operation: str, caller: str) -> set[int]:
    """The statuses that the spec allows: one, but for what depends on the record's own status (409)."""
    if operation in OPEN:
        return {200}
    if operation == "join_host":
        return {401}  # by its token, which is wrong
    if caller in STRANGERS:
        return {401}
    if operation == "report_host":
        return {200} if caller == "own host" else {404}
    if operation in MEMBERS:
        return {200}
    if operation in ADMINS:
        # Both organizations' admins make the tunnel: the name is the first one's.
        if caller == "other organization" and operation == "create_sandbox":
            return {503}  # it has no host
        return {200, 201, 409} if caller in ("admin", "other organization") else {403}
    if operation in OF_THE_SERVER:
        return {OF_THE_SERVER[operation]} if caller == "admin" else {403}
    if operation == "create_api_key":
        return {"admin": {201}, "other organization": {404}}.get(caller, {403})
    if operation in OF_A_KEY:
        return {"admin": {200}, "other organization": {404}}.get(caller, {403})
    if operation in OF_A_SANDBOX:
        return {"admin": {200, 201, 204, 409}, "other organization": {404}}.get(caller, {403})
    assert operation in READS_OF_A_TUNNEL | FOR_A_TUNNEL | WRITES_OF_A_TUNNEL, (
        f"what may be asked of {operation}?"
    )
    if caller in ("another tunnel", "own host", "other organization"):
        return {404}
    if caller == "own tunnel":
        return {200} if operation in READS_OF_A_TUNNEL | FOR_A_TUNNEL else {403}
    return {200, 204, 409}


class House:
    """Two organizations, a tunnel and its certificate, a host, a sandbox and its snapshot, and every key.

    ``subject`` is a key to be asked about.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        admin: Secret,
        organization: OrganizationId,
        issuer: Issuer,
        host: FakeHost,
    ) -> None:
        self.host, self.sandbox = host, ""
        self.issuer = issuer
        self.store, self.clock, self.admin, self.organization = store, clock, admin, organization
        self.callers: dict[str, list[tuple[str, str]]] = {}
        self.tunnel = self.subject = self.certificate = ""

    def path(self, route: Route) -> str:
        return route.template.format(
            tunnel_id=self.tunnel,
            key_id=self.subject,
            certificate_id=self.certificate,
            handle="my-agent",
            sandbox_id=self.sandbox,
            host_id=self.host.id,
            name="my-snapshot",
        )

    def body(self, route: Route) -> dict[str, object] | None:
        if route.operation == "create_api_key":
            return {"label": "x", "scoped_identity_id": self.tunnel}
        if route.operation == "create_snapshot":
            return {"sandbox_id": self.sandbox, "name": "my-snapshot"}
        return BODIES.get(route.operation)

    async def furnish(self) -> None:
        store, ours = self.store, self.organization
        row, connect_secret = await store.create_tunnel(ours, "my-agent", TlsMode.PASSTHROUGH)
        other, _ = await store.create_tunnel(ours, "another", TlsMode.EDGE)
        self.tunnel = row.id
        signing = signing_of(store, PUBLIC, ServerSettings(), self.issuer)
        signed = await signing.sign(ours, row.id, CSR, by=SERVER)
        self.certificate = signed.id
        made = await self.host.api.post("/sandboxes", json={})
        self.sandbox = made.json()["id"]
        await self.host.api.post("/snapshots", json={"sandbox_id": self.sandbox, "name": "my-snapshot"})
        revoked, revoked_key = await store.keys.create(ours, [ADMIN])
        await store.keys.revoke(ours, revoked.id)
        expired = await store.keys.create(ours, [ADMIN], self.clock() + timedelta(hours=1))
        self.clock.ahead = timedelta(hours=2)
        _, theirs = await store.create_organization("theirs")
        subject, _ = await store.keys.create(ours, [ADMIN])
        self.subject = subject.id
        secrets = {
            "malformed": Secret("wh_pass\u00e9"),
            "unknown": access.mint(access.API_KEY),
            "revoked": revoked_key,
            "expired": expired[1],
            "connect secret": connect_secret,
            "admin": self.admin,
            "own tunnel": (await store.keys.create(ours, [Scope(ScopeKind.TUNNEL, row.id)]))[1],
            "another tunnel": (await store.keys.create(ours, [Scope(ScopeKind.TUNNEL, other.id)]))[1],
            "own host": Secret(self.host.key),
            "other organization": theirs,
        }
        self.callers = {caller: [("X-API-Key", key.reveal())] for caller, key in secrets.items()}
        self.callers["none"] = []
        self.callers["two keys"] = [("X-API-Key", self.admin.reveal())] * 2


@pytest.fixture
async def house(
    store: Store,
    clock: Clock,
    admin: Secret,
    organization: OrganizationId,
    issuer: Issuer,
    host: FakeHost,
    fleet: Fleet,
) -> AsyncIterator[House]:
    house = House(store, clock, admin, organization, issuer, host)
    await house.furnish()
    fleet.hub.close()  # so that a stream of events has an end
    yield house


async def test_every_route_answers_every_kind_of_caller_as_the_spec_says(
    house: House, app: FastAPI, stranger: httpx.AsyncClient
) -> None:
    said: dict[tuple[int, bool], set[bytes]] = defaultdict(set)
    asked = 0
    last = ("", *LAST)
    for route in sorted(
        routes(app), key=lambda route: last.index(route.operation) if route.operation in last else 0
    ):
        for caller in (*STRANGERS, *KEYS):  # the admin's changes come last but for those who must not see
            path = house.path(route)
            headers = [(name.encode(), text.encode("latin-1")) for name, text in house.callers[caller]]
            answer = await stranger.request(route.method, path, headers=headers, json=house.body(route))
            assert answer.status_code in expected(route.operation, caller), (route, caller, answer.text)
            if answer.status_code in (401, 404) and route.operation != "join_host":
                said[answer.status_code, dialect.is_spoken(path)].add(answer.content)
            asked += 1
    assert asked == len(routes(app)) * len((*STRANGERS, *KEYS))
    assert len(said[401, False]) == len(said[401, True]) == 1, "one shape for every stranger"
    assert said[404, False] == {
        b'{"detail":"no such tunnel"}',
        b'{"detail":"no such key"}',
        b'{"detail":"no such certificate"}',
        b'{"detail":"no such identity"}',
    }
    assert said[404, True] == {
        b'{"error":{"code":"not_found","message":"no such sandbox"}}',
        b'{"error":{"code":"not_found","message":"no such host"}}',
        b'{"error":{"code":"not_found","message":"no such template"}}',
    }


def test_what_is_described_and_what_is_answered_are_the_same(app: FastAPI) -> None:
    described = {
        (method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods
    }
    hidden = {"/api/docs", "/api/openapi.json"}
    answered = {(route.method, route.template) for route in routes(app) if route.template not in hidden}
    assert answered == described and len(answered) > 10


async def test_a_foreign_id_is_answered_as_one_that_does_not_exist(
    house: House, app: FastAPI, stranger: httpx.AsyncClient
) -> None:
    headers = [(name.encode(), text.encode()) for name, text in house.callers["other organization"]]
    nobody = "0b0c6d0e-0000-4000-8000-000000000000"
    nothing = {
        "tunnel_id": nobody,
        "key_id": nobody,
        "certificate_id": nobody,
        "handle": "no-agent",
        "sandbox_id": new_sandbox_id(),
        "host_id": new_host_id(),
        "name": "no-snapshot",
    }
    for route in routes(app):
        if "{" not in route.template:
            continue
        answers = [
            await stranger.request(
                route.method,
                path,
                headers=headers,
                json=BODIES.get(route.operation),
            )
            for path in (
                house.path(route),
                route.template.format(**nothing),
            )
        ]
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1, route


async def test_lists_show_a_caller_what_is_its_own(house: House, stranger: httpx.AsyncClient) -> None:
    seen = {}
    for caller in KEYS:
        answer = await stranger.get("/api/v1/tunnels/", headers=house.callers[caller])
        seen[caller] = [tunnel["tunnel_name"] for tunnel in answer.json()["tunnels"]]
    assert seen == {
        "admin": ["my-agent", "another"],
        "own tunnel": ["my-agent"],
        "another tunnel": ["another"],
        "own host": [],
        "other organization": [],
    }
    theirs = await stranger.get("/api/v1/audit", headers=house.callers["other organization"])
    assert {entry["action"] for entry in theirs.json()["entries"]} == {"organization.create", "key.create"}
