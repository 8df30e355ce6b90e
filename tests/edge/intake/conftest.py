"""The zone name that tests of the carrier dial; whatever they do, nothing of a request may be left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.kit.zone import Zone


@pytest.fixture
async def zone() -> AsyncIterator[Zone]:
    made = Zone()
    yield made
    for agent in made.agents:
        agent.talk()
    leaks = made.leaks()
    await made.close()
    assert not leaks
    assert not made.gate._sessions and not made.house.registry.lines
