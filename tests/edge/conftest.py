"""The house that most tests of the edge visit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.kit.house import COUNTS, TERMS, House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(TERMS, COUNTS)
    yield made
    made.close()
