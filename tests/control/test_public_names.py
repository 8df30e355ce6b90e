"""The server's own names between records, edge and authority."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.control.conftest import PUBLIC, Clock
from tests.control.test_feed import follower, joined, until
from tests.control.test_tunnels import created
from tests.kit.certs import self_signed
from wellhead import issued
from wellhead.control.public_names import PublicNames, TunnelGate
from wellhead.control.store import Store
from wellhead.control.store.orders import Budget
from wellhead.edge.follower import Follower
from wellhead.errors import IssuerError, LocalStateError, RateLimited
from wellhead.settings import ServerSettings

__all__ = ["follower"]


@pytest.fixture
def gate(store: Store) -> TunnelGate:
    return TunnelGate(store, PUBLIC, "acme", Budget(per_week=2))


async def test_only_names_of_active_tunnels_that_end_tls_at_the_edge_and_the_apis_are_ordered(
    api: httpx.AsyncClient, gate: TunnelGate
) -> None:
    await created(api, "ours")
    await created(api, "own-key", tls_mode="passthrough")
    gone = await created(api, "gone")
    await api.delete(f"/tunnels/{gone['tunnel']['id']}")
    assert gate.allows("ours.example.org") and gate.allows("api.example.org")
    for name in (
        "own-key.example.org",
        "gone.example.org",
        "nobody.example.org",
        "ours.example.net",
        "api.example.net",
    ):
        assert not gate.allows(name), name
    for name in ("ours", "a.ours.example.org", "example.org", ""):
        assert not gate.allows(name), name


def test_the_name_of_the_path_form_is_ordered_where_that_is_on(store: Store, gate: TunnelGate) -> None:
    on = TunnelGate(store, PUBLIC, "acme", Budget(per_week=2), path_form=True)
    assert on.allows("proxy.example.org") and not gate.allows("proxy.example.org")


async def test_orders_on_demand_are_within_the_budget_of_all_tunnels_and_failures_put_them_off(
    api: httpx.AsyncClient, gate: TunnelGate, clock: Clock
) -> None:
    await gate.end(await gate.begin("a.example.org"), None)
    await gate.end(await gate.begin("b.example.org"), IssuerError("no", reason="refused"))
    with pytest.raises(RateLimited, match="2 certificates for this server in a week"):
        await gate.begin("c.example.org")


async def test_an_authority_that_was_away_does_not_use_the_budget_up(
    api: httpx.AsyncClient, gate: TunnelGate
) -> None:
    for name in "abcde":
        await gate.end(await gate.begin(f"{name}.example.org"), IssuerError("away", reason="away"))


async def test_failing_orders_are_told_to_the_edge_and_keys_in_use_are_no_tenants(
    tmp_path: Path, store: Store, follower: Follower
) -> None:
    key, certificate = self_signed("example.org")
    issued.put(
        tmp_path / issued.DIRECTORY,
        "example.org",
        chain_pem=certificate.decode(),
        key_pem=key.decode(),
        meta={},
    )
    settings = ServerSettings(
        data_dir=tmp_path, domain="example.org", issuer="acme", acme_directory="https://127.0.0.1:1/dir"
    )
    async with joined(follower) as two:
        names = PublicNames(settings, PUBLIC, two.feed)
        assert len(names.keys()) == 1, "the account's"
        await two.feed.tell_all(store.directory, made_key=False)
        async with names.renewing(store, Budget()):
            assert len(names.keys()) == 2
            async with asyncio.timeout(20):
                while not follower.orders_failing:  # noqa: ASYNC110 - a thread's answer, over a socket
                    await asyncio.sleep(0.01)
        await until(lambda: follower.orders_failing == 1)


async def test_a_missing_file_of_the_issuers_ends_the_start(tmp_path: Path, follower: Follower) -> None:
    settings = ServerSettings(data_dir=tmp_path, issuer="acme", acme_ca_file=tmp_path / "nowhere")
    async with joined(follower) as two:
        with pytest.raises(LocalStateError, match="acme_ca_file: cannot read .*nowhere"):
            PublicNames(settings, PUBLIC, two.feed)
