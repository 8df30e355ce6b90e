"""``client.identities`` and keys for them, against a control plane over TLS on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wellhead.client import AsyncClient, Client
from wellhead.errors import Conflict, InputError, NotFound
from wellhead.model.access import Secret
from wellhead.model.records import Identity, TlsMode, TunnelStatus
from wellhead.net.authority import LocalAuthority


@pytest.fixture
async def client(control: tuple[int, Secret], authority: LocalAuthority) -> AsyncIterator[AsyncClient]:
    port, key = control
    async with AsyncClient(f"https://localhost:{port}", key, ca_file=authority.ca_file) as client:
        yield client


async def test_an_identitys_life(client: AsyncClient) -> None:
    made = await client.identities.create("my-agent", display_name="My agent", idempotency_key="once")
    assert isinstance(made, Identity) and made.tunnel.status is TunnelStatus.ACTIVE
    assert made.id == made.tunnel.id == made.tunnel.agent_identity_id
    assert await client.identities.create("my-agent", display_name="My agent", idempotency_key="once") == made
    assert await client.identities.get("my-agent") == await client.identities.get("@my-agent") == made
    assert await client.identities.list() == [made]
    assert await client.tunnels.find("my-agent") == made.tunnel
    changed = await client.identities.update("my-agent", description="text")
    assert (changed.display_name, changed.description) == ("My agent", "text")
    assert (await client.identities.update("my-agent", display_name=None)).display_name is None
    await client.identities.delete("my-agent")
    with pytest.raises(NotFound):
        await client.identities.get("my-agent")


async def test_identities_come_in_pages(client: AsyncClient) -> None:
    made = [await client.identities.create(f"agent-{n}", tls_mode=TlsMode.PASSTHROUGH) for n in range(3)]
    first = await client.identities.page(limit=2)
    rest = await client.identities.page(limit=2, cursor=first.next_cursor)
    assert [*first.items, *rest.items] == made and rest.next_cursor is None


async def test_a_taken_handle_is_told_in_a_sentence(client: AsyncClient) -> None:
    await client.tunnels.create("my-agent")
    with pytest.raises(Conflict) as taken:
        await client.identities.create("my-agent")
    assert taken.value.detail == 'tunnel name "my-agent" is taken'


async def test_a_key_for_an_identity(client: AsyncClient, authority: LocalAuthority) -> None:
    identity = await client.identities.create("my-agent")
    made = await client.keys.create("agent", identity=identity.id, description="the agent's own")
    assert made.record.scoped_identity_id == identity.id and made.record.description == "the agent's own"
    async with AsyncClient(client.url, made.api_key, ca_file=authority.ca_file) as agent:
        assert [each.id for each in await agent.identities.list()] == [identity.id]


def test_a_key_is_for_scopes_or_for_an_identity() -> None:
    with Client("https://localhost", "wh_test") as client:
        for wanted in ({}, {"scopes": ["admin"], "identity": "x"}):
            with pytest.raises(InputError, match="give one of them"):
                client.keys.create("x", **wanted)  # type: ignore[arg-type]  # what a caller may write
