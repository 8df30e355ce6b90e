"""The house that most tests of the edge visit, and their event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.kit.house import COUNTS, TERMS, House
from tests.kit.jumping import JumpingLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module that says ``JUMPING_CLOCK = True`` waits for no timer."""
    module = item.getparent(pytest.Module)
    jumping = module is not None and getattr(module.obj, "JUMPING_CLOCK", False)
    return {"jumping": JumpingLoop} if jumping else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(TERMS, COUNTS)
    yield made
    made.close()
