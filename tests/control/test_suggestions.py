"""Tunnels' renewals when their authority would have them."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.control.conftest import PUBLIC, Clock
from tests.control.test_certificates import HOST, Watched
from tests.kit.control import signing_of
from tests.kit.csr import pem_for
from wellhead.control.signing import Signing
from wellhead.control.store import Store
from wellhead.control.store.tables import CertificateRow, TunnelRow
from wellhead.control.suggestions import Suggestions
from wellhead.errors import IssuerError, RateLimited
from wellhead.model.records import SERVER, OrganizationId, TlsMode
from wellhead.settings import ServerSettings

DAY = dt.timedelta(days=1)


class Authority:
    name = "acme"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.suggested: dt.datetime | None = None
        self.failure: IssuerError | None = None

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        self.asked.append(leaf_pem)
        if self.failure is not None:
            raise self.failure
        return self.suggested, self.clock() + DAY / 4


class House:
    def __init__(self, store: Store, organization: OrganizationId, clock: Clock) -> None:
        self.store, self.organization, self.clock = store, organization, clock
        self.issuer = Watched(clock)
        self.issuer.name = "acme"
        settings = ServerSettings(issue_budget_per_name_per_week=1)
        self.signing: Signing = signing_of(store, PUBLIC, settings, self.issuer)
        self.authority = Authority(clock)
        self.suggestions = Suggestions(self.authority, store.certificates, clock=clock, chance=lambda: 0.5)
        self.tunnel = ""

    async def signed(self) -> CertificateRow:
        if not self.tunnel:
            row, _ = await self.store.create_tunnel(self.organization, "my-agent", TlsMode.PASSTHROUGH)
            self.tunnel = row.id
        return await self.signing.sign(self.organization, self.tunnel, pem_for(HOST), by=SERVER)

    async def later(self, span: dt.timedelta) -> None:
        await self.suggestions.look()
        self.clock.pass_by(span)
        await self.suggestions.look()

    async def told(self) -> TunnelRow:
        """As the agent sees its tunnel."""
        return await self.store.tunnel(self.organization, self.tunnel)


@pytest.fixture
def house(store: Store, organization: OrganizationId, clock: Clock) -> House:
    return House(store, organization, clock)


async def test_a_tunnels_renewal_is_moved_to_when_its_authority_would_have_it(house: House) -> None:
    made = await house.signed()
    house.authority.suggested = house.clock() + 20 * DAY
    await house.later(DAY / 4)
    assert house.authority.asked == [made.leaf_pem]
    assert (await house.told()).cert_renew_at == house.authority.suggested
    (record,) = await house.store.certificates.page(house.organization)
    assert record.renew_at == house.authority.suggested


async def test_such_a_renewal_is_within_every_budget(house: House) -> None:
    await house.signed()
    with pytest.raises(RateLimited):
        await house.signed()
    house.authority.suggested = house.clock()
    await house.later(DAY / 4)
    renewed = await house.signed()
    assert (await house.told()).cert_renew_at == renewed.renew_at > house.clock(), "of the next one"
    with pytest.raises(RateLimited):
        await house.signed()


@pytest.mark.parametrize("days", [58, 70, None])
async def test_chance_within_a_window_and_later_times_move_nothing(house: House, days: int | None) -> None:
    made = await house.signed()
    house.authority.suggested = None if days is None else house.clock() + days * DAY
    await house.later(DAY / 4)
    assert house.authority.asked and (await house.told()).cert_renew_at == made.renew_at


async def test_an_authority_is_asked_again_when_it_said(house: House) -> None:
    await house.signed()
    await house.later(DAY / 8)
    asked = len(house.authority.asked)
    await house.later(DAY / 8)
    assert len(house.authority.asked) == asked == 1
    await house.later(DAY / 4)
    assert len(house.authority.asked) == 2


async def test_one_that_does_not_answer_is_asked_again_an_hour_later_or_when_it_said(house: House) -> None:
    await house.signed()
    house.authority.failure = IssuerError("away", reason="away", retry_after_seconds=2 * 3600)
    await house.later(DAY / 4)
    await house.later(DAY / 24)
    assert len(house.authority.asked) == 1
    house.authority.failure = IssuerError("away", reason="away")
    await house.later(DAY / 24)
    await house.later(DAY / 24)
    assert len(house.authority.asked) == 3


async def test_what_a_tunnel_has_no_more_and_others_certificates_are_not_asked_about(house: House) -> None:
    house.issuer.name = "local"
    await house.signed()
    await house.later(DAY / 4)
    house.issuer.name = "acme"
    last = await house.signed()
    await house.later(DAY / 4)
    assert house.authority.asked == [last.leaf_pem]
    await house.store.delete_tunnel(house.organization, house.tunnel)
    await house.later(DAY)
    assert len(house.authority.asked) == 1 and not house.suggestions._ask_at
