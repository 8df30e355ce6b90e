"""One guest for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.guests import Guest, guest_program


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with guest_program() as running:
        yield running
