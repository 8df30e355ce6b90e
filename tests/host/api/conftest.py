"""One guest for the tests of a file, and the API over it for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.kit.api_host import ApiHost, LiveGuest, api_host, live_guest


@pytest.fixture(scope="module")
def guest() -> Iterator[LiveGuest]:
    with live_guest() as guest:
        yield guest


@pytest.fixture
async def host(guest: LiveGuest) -> AsyncIterator[ApiHost]:
    async with api_host(guest, env={"FROM_SANDBOX": "yes"}) as host:
        yield host
