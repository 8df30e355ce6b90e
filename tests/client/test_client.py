"""Both clients against a control plane over TLS on loopback."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tests.kit.asgi import served
from wellhead.client import AsyncClient, Client, Timeouts, tunnel_calls
from wellhead.errors import (
    ApiError,
    Conflict,
    DialError,
    Forbidden,
    InputError,
    Invalid,
    LinkError,
    NotFound,
    RateLimited,
    Retry,
    SettingsError,
    StateError,
    TrustError,
    Unauthorized,
    Unavailable,
)
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import KeyStatus, TlsMode, TunnelStatus
from wellhead.net.authority import LocalAuthority
from wellhead.version import VERSION

KEY = Secret("wh_test")
ONCE = Timeouts(retry_seconds=0)


@pytest.fixture
async def client(control: tuple[int, Secret], authority: LocalAuthority) -> AsyncIterator[AsyncClient]:
    port, key = control
    async with AsyncClient(f"https://localhost:{port}", key, ca_file=authority.ca_file) as client:
        yield client


class Canned:
    """A server that remembers its requests and gives one answer."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(Request(scope))
        await self.answer(scope, receive, send)


async def test_a_tunnels_life(client: AsyncClient) -> None:
    made = await client.tunnels.create("my-agent", description="text", metadata={"a": 1})
    tunnel = made.tunnel
    assert access.well_formed(made.connect_secret, access.CONNECT_SECRET)
    assert (tunnel.tunnel_name, tunnel.tls_mode, tunnel.status) == (
        "my-agent",
        TlsMode.EDGE,
        TunnelStatus.ACTIVE,
    )
    assert tunnel.public_urls == ["https://my-agent.localhost:8443"]
    assert tunnel.created_at.tzinfo is not None
    assert await client.tunnels.list() == [tunnel]
    assert await client.tunnels.find("my-agent") == tunnel
    assert await client.tunnels.find("other") is None
    assert await client.tunnels.get(tunnel.id) == tunnel

    changed = await client.tunnels.update(tunnel.id, metadata=None)
    assert (changed.description, changed.metadata) == ("text", {})
    changed = await client.tunnels.update(tunnel.id, description=None)
    assert changed.description is None

    deleted = await client.tunnels.delete(tunnel.id)
    assert deleted.status is TunnelStatus.PENDING_REMOVAL and deleted.restore_deadline_at is not None
    assert (await client.tunnels.restore(tunnel.id)).status is TunnelStatus.ACTIVE


async def test_a_secret_is_rotated_and_a_tunnel_ended_for_good(client: AsyncClient) -> None:
    made = await client.tunnels.create("my-agent")
    for hard in (False, True):
        secret = await client.tunnels.rotate_secret(made.tunnel.id, hard=hard)
        assert access.well_formed(secret, access.CONNECT_SECRET) and secret != made.connect_secret
    with pytest.raises(Conflict):
        await client.tunnels.force_delete(made.tunnel.id)
    await client.tunnels.delete(made.tunnel.id)
    ended = await client.tunnels.force_delete(made.tunnel.id)
    assert ended.status is TunnelStatus.DELETED
    with pytest.raises(NotFound):
        await client.tunnels.get(made.tunnel.id)
    again = await client.tunnels.create("my-agent")
    assert again.tunnel.id != made.tunnel.id


async def test_a_create_with_an_idempotency_key_finds_what_it_made(client: AsyncClient) -> None:
    made = await client.tunnels.create("my-agent", idempotency_key="one")
    again = await client.tunnels.create("my-agent", idempotency_key="one")
    assert again.tunnel.id == made.tunnel.id and again.connect_secret != made.connect_secret
    with pytest.raises(Conflict):
        await client.tunnels.create("my-agent", idempotency_key="two")


async def test_tunnels_come_filtered_and_page_by_page(client: AsyncClient) -> None:
    made = [(await client.tunnels.create(f"agent-{number}")).tunnel for number in range(3)]
    first = await client.tunnels.page(limit=2)
    assert first.items == made[:2] and first.next_cursor is not None
    rest = await client.tunnels.page(limit=2, cursor=first.next_cursor)
    assert (rest.items, rest.next_cursor) == (made[2:], None)
    await client.tunnels.delete(made[0].id)
    leaving = await client.tunnels.list(status=TunnelStatus.PENDING_REMOVAL)
    assert [tunnel.id for tunnel in leaving] == [made[0].id]
    assert await client.tunnels.list(connected=True) == []
    assert len(await client.tunnels.list(connected=False, tls_mode=TlsMode.EDGE)) == 3
    await client.tunnels.create("other")
    assert await client.tunnels.list(prefix="agent-1") == [made[1]]
    assert (await client.tunnels.page(limit=1, prefix="agent-")).next_cursor is not None
    for nobody in ("Agent", "gent", "agent_", "%", "agent-11"):
        assert await client.tunnels.list(prefix=nobody) == []
    with pytest.raises(Invalid):
        await client.tunnels.page(limit=0)
    for attempt in (client.tunnels.page(cursor="x"), client.audit.list(cursor="x")):
        with pytest.raises(NotFound):
            await attempt


async def test_a_keys_life(client: AsyncClient, authority: LocalAuthority) -> None:
    tunnel = (await client.tunnels.create("my-agent")).tunnel
    end = datetime(2100, 1, 1, tzinfo=UTC)
    made = await client.keys.create(
        "ci", scopes=[access.Scope(access.ScopeKind.TUNNEL, tunnel.id), f"tunnel:{tunnel.id}"], expires_at=end
    )
    assert access.well_formed(made.api_key, access.API_KEY)
    record = made.record
    assert (record.label, record.scopes, record.status) == ("ci", [f"tunnel:{tunnel.id}"], KeyStatus.ACTIVE)
    assert (record.expires_at, record.last4) == (end, access.last4(made.api_key))
    assert [key.id for key in await client.keys.list()][1:] == [record.id]
    assert await client.keys.get(record.id) == record
    with pytest.raises(NotFound):
        await client.keys.get("no-such-key")

    async with AsyncClient(client.url, made.api_key, ca_file=authority.ca_file) as scoped:
        assert await scoped.tunnels.list() == [tunnel]
        for attempt in (
            scoped.tunnels.create("other"),
            scoped.tunnels.delete(tunnel.id),
            scoped.tunnels.rotate_secret(tunnel.id),
            scoped.keys.list(),
            scoped.keys.get(record.id),
            scoped.audit.list(),
        ):
            with pytest.raises(Forbidden):
                await attempt
        revoked = await client.keys.revoke(record.id)
        assert revoked.status is KeyStatus.REVOKED and revoked.revoked_at is not None
        with pytest.raises(Unauthorized):
            await scoped.tunnels.list()


async def test_the_last_admin_key_stays(client: AsyncClient) -> None:
    (only,) = await client.keys.list()
    with pytest.raises(Conflict):
        await client.keys.revoke(only.id)
    with pytest.raises(NotFound):
        await client.keys.revoke("nonsense")


def test_what_is_wrong_with_a_key_is_said_before_it_is_asked_for() -> None:
    with Client("https://localhost", KEY) as client:
        with pytest.raises(InputError, match="is not a scope"):
            client.keys.create("ci", scopes=["root"])
        with pytest.raises(InputError, match="has no time zone"):
            client.keys.create("ci", scopes=["admin"], expires_at=datetime(2100, 1, 1))


async def test_the_audit_tells_who_changed_what(client: AsyncClient) -> None:
    tunnel = (await client.tunnels.create("my-agent")).tunnel
    await client.tunnels.update(tunnel.id, description="new")
    newest, *_ = (await client.audit.list(target_id=tunnel.id)).items
    assert (newest.action, newest.target_id, newest.target_name) == ("tunnel.update", tunnel.id, "my-agent")
    assert newest.after == {"description": "new"} and newest.actor == "key"
    page = await client.audit.list(limit=1)
    assert page.items == [newest] and page.next_cursor is not None
    (created,) = (await client.audit.list(limit=1, cursor=page.next_cursor)).items
    assert created.action == "tunnel.create"
    assert (await client.audit.list(action="tunnel.create")).items == [created]


async def test_refusals_are_errors_of_their_kind(client: AsyncClient) -> None:
    made = await client.tunnels.create("my-agent")
    for attempt, kind, says in (
        (client.tunnels.create("my-agent"), Conflict, '409: tunnel name "my-agent" is taken'),
        (client.tunnels.create("_x_"), Invalid, "only a-z, 0-9 and - are allowed"),
        (client.tunnels.get("nonsense"), NotFound, "404: no such tunnel"),
        (client.tunnels.get("../x"), NotFound, "404: "),
        (client.tunnels.restore(made.tunnel.id), Conflict, "active"),
    ):
        with pytest.raises(kind) as caught:
            await attempt
        assert says in str(caught.value)
        assert caught.value.retry is Retry.NEVER


async def test_the_sync_client_does_what_the_async_one_does(
    control: tuple[int, Secret], authority: LocalAuthority
) -> None:
    port, admin = control

    def script() -> None:
        with Client(f"https://localhost:{port}", admin, ca_file=authority.ca_file) as client:
            made = client.tunnels.create("my-agent")
            assert client.tunnels.list() == [made.tunnel]
            assert client.tunnels.find("my-agent") == made.tunnel
            assert client.tunnels.get(made.tunnel.id) == made.tunnel
            assert client.tunnels.update(made.tunnel.id, description="x").description == "x"
            assert client.tunnels.delete(made.tunnel.id).status is TunnelStatus.PENDING_REMOVAL
            assert client.tunnels.restore(made.tunnel.id).status is TunnelStatus.ACTIVE
            assert client.tunnels.page(limit=1).items == client.tunnels.list()
            assert client.tunnels.rotate_secret(made.tunnel.id) != made.connect_secret
            client.tunnels.delete(made.tunnel.id)
            assert client.tunnels.force_delete(made.tunnel.id).status is TunnelStatus.DELETED
            key = client.keys.create("ci", scopes=["admin"])
            assert client.keys.revoke(key.record.id).status is KeyStatus.REVOKED
            assert len(client.keys.list()) == 2
            assert client.audit.list(limit=1).items[0].action == "key.revoke"
            with pytest.raises(NotFound):
                client.tunnels.get(made.tunnel.id)

    await asyncio.to_thread(script)


def test_a_method_shows_the_signature_and_the_words_of_its_call() -> None:
    with Client("https://localhost", KEY) as client:
        find = client.tunnels.find
    assert str(inspect.signature(find)) == "(name: 'str') -> 'Tunnel | None'"
    assert find.__doc__ == tunnel_calls.find_tunnel.__doc__


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1"])
async def test_this_machine_is_reached_by_name_and_by_address(
    control: tuple[int, Secret], authority: LocalAuthority, hostname: str
) -> None:
    port, key = control
    async with AsyncClient(f"https://{hostname}:{port}", key, ca_file=authority.ca_file) as client:
        assert await client.tunnels.list() == []


async def test_a_name_under_localhost_is_dialled_here_with_its_own_sni_and_host(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_resolver(*_: object, **__: object) -> Any:
        raise AssertionError("the resolver was asked")

    canned = Canned(JSONResponse({"tunnels": []}))
    # A certificate for api.localhost alone: a wrong SNI or name check would fail.
    async with served(canned, authority.leaf_context("api.localhost")) as port:
        client = AsyncClient(f"https://api.localhost:{port}", KEY, ca_file=authority.ca_file)
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: (
                real(host, *rest, **more) if host in ("127.0.0.1", b"127.0.0.1") else no_resolver()
            ),
        )
        assert await client.tunnels.list() == []
        await client.aclose()
        with pytest.raises(TrustError):
            async with AsyncClient(f"https://localhost:{port}", KEY, ca_file=authority.ca_file) as wrong:
                await wrong.tunnels.list()
    assert [request.headers["host"] for request in canned.requests] == [f"api.localhost:{port}"]


async def test_a_request_says_who_asks(authority: LocalAuthority) -> None:
    canned = Canned(JSONResponse({"tunnels": []}))
    async with served(canned, authority.address_context()) as port:
        async with AsyncClient(f"https://localhost:{port}", KEY, ca_file=authority.ca_file) as client:
            await client.tunnels.find("my-agent")
    (request,) = canned.requests
    assert (request.method, request.url.path, request.url.query) == (
        "GET",
        "/api/v1/tunnels/",
        "name=my-agent",
    )
    assert request.headers["user-agent"] == f"wellhead-python/{VERSION}"
    assert request.headers["x-api-key"] == "wh_test"


@pytest.mark.parametrize(
    ("answer", "kind", "retry", "says"),
    [
        (JSONResponse({"detail": "no"}, 401), Unauthorized, Retry.NEVER, "401: no"),
        (JSONResponse({"detail": "slow"}, 429, {"Retry-After": "7"}), RateLimited, Retry.LATER, "429: slow"),
        (JSONResponse({"detail": "locked"}, 503, {"Retry-After": "x"}), Unavailable, Retry.LATER, "locked"),
        (JSONResponse({"detail": [{"a": 1}]}, 422), Invalid, Retry.NEVER, "'a': 1"),
        (JSONResponse(["x"], 418), ApiError, Retry.NEVER, "418"),
        (PlainTextResponse("bad\n\x1b[2Jgateway", 502), ApiError, Retry.LATER, r"bad\n\x1b[2Jgateway"),
        (PlainTextResponse("", 404), NotFound, Retry.NEVER, "404: not found"),
        (
            Response(status_code=302, headers={"Location": "https://evil.example"}),
            ApiError,
            Retry.NEVER,
            "302",
        ),
        (PlainTextResponse("not json"), ApiError, Retry.NEVER, "not of this API"),
        (JSONResponse({"tunnels": [{"id": 1}]}), ApiError, Retry.NEVER, "not of this API"),
        (JSONResponse([]), ApiError, Retry.NEVER, "not of this API"),
    ],
)
async def test_an_answer_that_is_no_record_is_an_api_error(
    answer: Response, kind: type[ApiError], retry: Retry, says: str
) -> None:
    async with served(Canned(answer), None) as port:
        async with AsyncClient(f"http://localhost:{port}", KEY, timeouts=ONCE) as client:
            with pytest.raises(ApiError) as caught:
                await client.tunnels.list()
    assert type(caught.value) is kind and caught.value.retry is retry
    assert says in str(caught.value) and str(caught.value).isprintable()
    if answer.headers.get("retry-after") == "7":
        assert caught.value.retry_after_seconds == 7


async def test_a_secret_in_an_answer_that_cannot_be_read_is_not_repeated() -> None:
    answer = JSONResponse({"connect_secret": "whs_canary", "tunnel": {"id": "x"}}, 201)
    async with served(Canned(answer), None) as port:
        async with AsyncClient(f"http://localhost:{port}", KEY) as client:
            with pytest.raises(ApiError) as caught:
                await client.tunnels.create("my-agent")
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in repr(error) + str(error)
        error = error.__cause__


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_nobody_there_is_a_dial_error_that_names_the_url() -> None:
    url = f"https://localhost:{free_port()}"
    with Client(url, KEY) as client, pytest.raises(DialError) as caught:
        client.tunnels.list()
    assert str(caught.value) == f"cannot reach {url}: connection refused"
    async with AsyncClient(url, KEY) as later:
        with pytest.raises(DialError) as caught:
            await later.tunnels.list()
    assert str(caught.value) == f"cannot reach {url}: connection refused"


async def test_an_unknown_name_is_a_dial_error() -> None:
    with Client("https://nothing.invalid", KEY) as client, pytest.raises(DialError, match="nothing.invalid"):
        client.tunnels.list()


async def test_a_foreign_certificate_is_a_trust_error_with_the_way_out(
    control: tuple[int, Secret], tmp_path: Path
) -> None:
    port, key = control
    async with AsyncClient(f"https://localhost:{port}", key) as client:
        with pytest.raises(TrustError, match="cannot trust https://localhost:.*--ca-file") as caught:
            await client.tunnels.list()
    assert caught.value.retry is Retry.NEVER


async def test_a_server_without_tls_is_a_dial_error_that_says_so(authority: LocalAuthority) -> None:
    async with served(Canned(JSONResponse({})), None) as port:
        async with AsyncClient(f"https://localhost:{port}", KEY, ca_file=authority.ca_file) as client:
            with pytest.raises(DialError, match="no TLS there"):
                await client.tunnels.list()


async def test_a_server_that_hangs_up_is_a_link_error() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, AsyncClient(f"http://localhost:{server.sockets[0].getsockname()[1]}", KEY) as client:
        with pytest.raises(LinkError, match="broke off"):
            await client.tunnels.list()


async def test_a_proxy_is_never_asked_for_this_machine(
    control: tuple[int, Secret], authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody)
    port, key = control
    async with AsyncClient(f"https://localhost:{port}", key, ca_file=authority.ca_file) as client:
        assert await client.tunnels.list() == []
    with Client("https://nothing.invalid", key) as far, pytest.raises(DialError, match="connection refused"):
        far.tunnels.list()


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_read_is_a_settings_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match="cannot read the CA file .*ca.pem"):
        Client("https://localhost", KEY, ca_file=file)


@pytest.mark.parametrize("key", ["wh_a b", "wh_a\n", "wh_a\r\nX-Evil: 1", "wh_\u00e9"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_unseen(key: str) -> None:
    with pytest.raises(InputError) as caught:
        Client("https://localhost", Secret(key))
    with pytest.raises(InputError):
        Client("https://localhost", key)
    assert "wh_" not in str(caught.value)


def test_what_cannot_be_asked_is_told_before_it_is_asked() -> None:
    with Client("https://localhost:1", Secret("wh_x"), timeouts=Timeouts(retry_seconds=0)) as client:
        for nothing in ("", ".", ".."):
            for attempt in (client.tunnels.get, client.tunnels.delete, client.keys.get, client.keys.revoke):
                with pytest.raises(InputError, match="an id is needed"):
                    attempt(nothing)
        for metadata in ({"a": object()}, {"a": float("nan")}, {"a": "\ud800"}):
            with pytest.raises(InputError, match="cannot be JSON"):
                client.tunnels.create("my-agent", metadata=metadata)
        with pytest.raises(DialError):  # one scope, not five letters
            client.keys.create("x", scopes="admin")


async def test_a_closed_client_says_so() -> None:
    client, other = Client("https://localhost:1", Secret("wh_x")), AsyncClient("https://localhost:1", "wh_x")
    client.close()
    with pytest.raises(StateError, match="the client of https://localhost:1 is closed"):
        client.tunnels.list()
    await other.aclose()
    with pytest.raises(StateError, match="is closed"):
        await other.tunnels.list()
