"""How much is asked at once and how often: filters, pages, repeated creates, rates, races."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import built
from wellhead.control.store import Store
from wellhead.control.store.creation import IDEMPOTENCY_KEPT
from wellhead.control.store.store import BATCH
from wellhead.errors import SecretRejected
from wellhead.model.access import Secret
from wellhead.model.records import OrganizationId, TlsMode, TunnelId
from wellhead.settings import ServerSettings


async def names(api: httpx.AsyncClient, **query: str | int) -> list[str]:
    answer = await api.get("/tunnels/", params=query)
    assert answer.status_code == 200, answer.text
    return [tunnel["tunnel_name"] for tunnel in answer.json()["tunnels"]]


async def within_a_second(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    deadline = asyncio.get_running_loop().time() + 1
    while (said := await ask()) != expected:
        assert asyncio.get_running_loop().time() < deadline, said


# Filters and pages


async def test_filters_choose_and_go_together(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    ids = {}
    for name in ("aaa", "bbb", "ccc"):
        row, _ = await store.create_tunnel(organization, name, TlsMode.EDGE)
        ids[name] = TunnelId(row.id)
    await store.create_tunnel(organization, "ddd", TlsMode.PASSTHROUGH)
    await store.delete_tunnel(organization, ids["bbb"])
    store.directory.session_opened(ids["ccc"], "s_1", "192.0.2.7", "wellhead-python/0.1.0")
    await within_a_second(lambda: names(api, connected="true"), ["ccc"])
    assert await names(api, connected="false") == ["aaa", "bbb", "ddd"]
    assert await names(api, status="active") == ["aaa", "ccc"]
    assert await names(api, status="delete_pending") == ["bbb"]
    assert await names(api, status="awaiting_cert", tls_mode="passthrough") == ["ddd"]
    assert await names(api, tls_mode="edge", status="active", name="aaa") == ["aaa"]
    assert await names(api, tls_mode="edge", name="ddd") == []
    for wrong in ({"status": "deleted"}, {"status": "x"}, {"tls_mode": "x"}, {"connected": "perhaps"}):
        assert (await api.get("/tunnels/", params=wrong)).status_code == 422


async def test_who_is_connected_shows_within_a_second_at_rest_too(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    store.directory.session_opened(TunnelId(row.id), "s_1", "192.0.2.7", "wellhead-python/0.1.0")
    shown = (await api.get(f"/tunnels/{row.id}")).json()
    assert (shown["currently_connected"], shown["last_connected_ip_addr"], shown["agent_version"]) == (
        True, "192.0.2.7", "wellhead-python/0.1.0",
    )  # fmt: skip

    async def at_rest() -> tuple[bool, str | None]:
        found = await store.tunnel(organization, row.id)
        return found.currently_connected, found.agent_version

    await within_a_second(at_rest, (True, "wellhead-python/0.1.0"))


@pytest.mark.parametrize(
    ("agent", "shown"),
    [
        ("", None),
        ("x" * 5000, "x" * 200),
        ("a\x1b[2J\n\u202e\0", r"a\x1b[2J\n\u202e\x00"),
        ("\ud800", r"\ud800"),
        ("\U0001f600" * 200, "\U0001f600" * 200),
    ],
)
async def test_what_an_agent_says_it_is_is_kept_short_and_harmless(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId, agent: str, shown: str | None
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    store.directory.session_opened(TunnelId(row.id), "s_1", "192.0.2.7", agent)

    async def at_rest() -> tuple[bool, str | None]:
        found = await store.tunnel(organization, row.id)
        return found.currently_connected, found.agent_version

    await within_a_second(at_rest, (True, shown))
    assert (await api.get(f"/tunnels/{row.id}")).json()["agent_version"] == shown


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_pages_are_the_list_cut(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId, limit: int
) -> None:
    await asyncio.gather(
        *(store.create_tunnel(organization, f"agent-{number}", TlsMode.EDGE) for number in range(6))
    )
    whole = (await api.get("/tunnels/")).json()
    assert whole.keys() == {"tunnels"}, "who asks for no page gets what the first generation got"
    pages: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get("/tunnels/", params={"limit": str(limit)} | cursor)).json()
        pages.append(answer)
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}
    assert [tunnel for page in pages for tunnel in page["tunnels"]] == whole["tunnels"]
    assert all(len(page["tunnels"]) == limit for page in pages[:-1])


async def test_a_long_list_lets_others_have_their_turn(
    store: Store, api: httpx.AsyncClient, organization: OrganizationId
) -> None:
    for number in range(2 * BATCH + 1):
        await store.create_tunnel(organization, f"agent-{number}", TlsMode.EDGE)
    turns, over = 0, asyncio.Event()

    async def other() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len(await names(api)) == 2 * BATCH + 1
    over.set()
    await task
    assert turns >= 5


# Creates


async def test_a_repeated_create_finds_its_tunnel_and_gives_it_a_fresh_secret(
    store: Store, api: httpx.AsyncClient
) -> None:
    ask = {"json": {"tunnel_name": "my-agent"}, "headers": {"Idempotency-Key": "a-1"}}
    first, second = [await api.post("/tunnels/", **ask) for _ in range(2)]  # type: ignore[arg-type]
    assert (first.status_code, second.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["tunnel"]["id"] == second.json()["tunnel"]["id"]
    with pytest.raises(SecretRejected):
        await store.directory.admit("my-agent", Secret(first.json()["connect_secret"]), "", "")
    await store.directory.admit("my-agent", Secret(second.json()["connect_secret"]), "", "")
    assert await names(api) == ["my-agent"]


async def test_a_repeat_does_not_take_a_secret_that_is_in_use(
    store: Store, api: httpx.AsyncClient, clock: Clock
) -> None:
    async def ask(key: str, name: str) -> httpx.Response:
        return await api.post("/tunnels/", json={"tunnel_name": name}, headers={"Idempotency-Key": key})

    used = (await ask("a", "used")).json()["tunnel"]["id"]
    store.directory.session_opened(TunnelId(used), "s_1", "192.0.2.7", "test")
    rotated = (await ask("b", "rotated")).json()["tunnel"]["id"]
    await api.post(f"/tunnels/{rotated}/rotate-secret")
    gone = (await ask("c", "gone")).json()["tunnel"]["id"]
    await api.delete(f"/tunnels/{gone}")
    await api.delete(f"/tunnels/{gone}/force")
    for key, name, made in (("a", "used", used), ("b", "rotated", rotated), ("c", "gone", gone)):
        answer = await ask(key, name)
        assert answer.status_code == 409 and made in answer.json()["detail"]
    assert (await ask("a", "another")).status_code == 409, "the key was for another request"
    clock.ahead = IDEMPOTENCY_KEPT
    assert (await ask("c", "gone")).status_code == 201, "after a day the key is forgotten"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e9".encode()])
async def test_an_idempotency_key_is_short_and_visible(api: httpx.AsyncClient, key: str | bytes) -> None:
    headers: Any = {"Idempotency-Key": key}
    answer = await api.post("/tunnels/", json={"tunnel_name": "my-agent"}, headers=headers)
    assert answer.status_code == 422


async def test_idempotency_keys_are_an_organizations_own(store: Store, api: httpx.AsyncClient) -> None:
    _, theirs = await store.create_organization("theirs")
    for name, key in (("my-agent", None), ("their-agent", theirs)):
        headers = {"Idempotency-Key": "same"} | ({} if key is None else {"X-API-Key": key.reveal()})
        answer = await api.post("/tunnels/", json={"tunnel_name": name}, headers=headers)
        assert answer.status_code == 201 and "idempotency-replayed" not in answer.headers


@pytest.mark.parametrize("key", [None, "same"])
async def test_fifty_creates_of_one_name_at_once_make_one(api: httpx.AsyncClient, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}

    async def create() -> httpx.Response:
        """Again where it was put off: a busy machine has no turn for all of them in time."""
        while True:
            answer = await api.post("/tunnels/", json={"tunnel_name": "my-agent"}, headers=headers)
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(0.05)

    answers = await asyncio.gather(*(create() for _ in range(50)))
    counts = Counter(answer.status_code for answer in answers)
    assert counts == ({201: 1, 409: 49} if key is None else {201: 50})
    assert len({answer.json()["tunnel"]["id"] for answer in answers if answer.status_code == 201}) == 1
    assert await names(api) == ["my-agent"]


# Room


async def test_an_organization_has_as_many_tunnels_and_live_keys_as_it_may(
    store: Store, admin: Secret, clock: Clock
) -> None:
    app = built(store, PUBLIC, ServerSettings(tunnels_per_organization=3, keys_per_organization=3))
    async with asking(app, "127.0.0.1", admin.reveal()) as api:

        async def create(name: str, key: str | None = None) -> httpx.Response:
            headers = {} if key is None else {"Idempotency-Key": key}
            return await api.post("/tunnels/", json={"tunnel_name": name}, headers=headers)

        answers = await asyncio.gather(*(create(f"agent-{number}") for number in range(10)))
        assert Counter(answer.status_code for answer in answers) == {201: 3, 429: 7}
        (said,) = {answer.json()["detail"] for answer in answers if answer.status_code == 429}
        assert said.startswith("the organization has 3 tunnels, at most 3 are allowed by tunnels_per")
        assert (await create("one-more")).headers["retry-after"] == "3600"
        path = f"/tunnels/{(await api.get('/tunnels/')).json()['tunnels'][0]['id']}"
        await api.delete(path)
        assert (await create("one-more")).status_code == 429, "its name is still held"
        await api.delete(f"{path}/force")
        assert [(await create("one-more", "same")).status_code for _ in range(2)] == [201, 201]

        async def key(**fields: str) -> httpx.Response:
            return await api.post("/keys", json={"label": "x", "scopes": ["admin"], **fields})

        soon = (clock() + timedelta(hours=1)).isoformat()
        made = [await key(), await key(expires_at=soon), await key()]
        assert [answer.status_code for answer in made] == [201, 201, 429]
        assert "3 live keys, at most 3 are allowed by keys_per_organization" in made[-1].json()["detail"]
        clock.ahead = timedelta(hours=2)
        assert (await key()).status_code == 201, "one is over"
        await api.delete(f"/keys/{made[0].json()['record']['id']}")
        assert [(await key()).status_code for _ in range(2)] == [201, 429]


def asking(app: FastAPI, address: str, key: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(address, 5)),
        base_url="http://control/api/v1",
        headers={} if key is None else {"X-API-Key": key},
    )


async def test_too_many_requests_are_told_when_to_go_on(store: Store, admin: Secret) -> None:
    settings = ServerSettings(api_requests_per_key_per_minute=5, api_requests_per_address_per_minute=8)
    app = built(store, PUBLIC, settings)
    async with (
        asking(app, "192.0.2.1", admin.reveal()) as first,
        asking(app, "192.0.2.2", admin.reveal()) as second,
        asking(app, "192.0.2.3", None) as third,
        asking(app, "127.0.0.1", None) as local,
    ):
        said = [await first.get("/tunnels/") for _ in range(6)]
        assert [answer.status_code for answer in said] == [200] * 5 + [429]
        assert said[-1].json() == {"detail": "too many requests with this key"}
        assert 1 <= int(said[-1].headers["retry-after"]) <= 12
        assert said[-1].headers["x-limit"] == "api-key-rate"
        assert (await second.get("/tunnels/")).status_code == 429, "the key is the same"
        strangers = [await third.get("/tunnels/") for _ in range(9)]
        assert [answer.status_code for answer in strangers] == [401] * 8 + [429]
        assert strangers[-1].headers["x-limit"] == "api-address-rate"
        assert {(await local.get("/tunnels/")).status_code for _ in range(30)} == {401}, "loopback is exempt"


async def test_wrong_keys_make_an_address_wait_with_right_ones_too(store: Store, admin: Secret) -> None:
    app = built(store, PUBLIC, ServerSettings())
    async with asking(app, "192.0.2.1", "wh_wrong") as guesser:
        said = [await guesser.get("/tunnels/") for _ in range(11)]
        assert [answer.status_code for answer in said] == [401] * 10 + [429]
        assert said[-1].json() == {"detail": "too many wrong keys from this address"}
        assert said[-1].headers["x-limit"] == "api-failures"
        right = await guesser.get("/tunnels/", headers={"X-API-Key": admin.reveal()})
        assert right.status_code == 429
    async with asking(app, "192.0.2.9", admin.reveal()) as other:
        assert (await other.get("/tunnels/")).status_code == 200


async def test_the_addresses_of_one_network_are_counted_as_one(store: Store) -> None:
    app, said = built(store, PUBLIC, ServerSettings()), []
    for number in range(11):
        async with asking(app, f"2001:db8::{number:x}", "wh_wrong") as guesser:
            said.append((await guesser.get("/tunnels/")).status_code)
    assert said == [401] * 10 + [429]
