"""Which event loops a test of this folder runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.kit.jumping import JumpingLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A module that says ``BOTH_LOOPS = True`` runs on each: they differ in when a transport says what.

    One that says ``JUMPING_CLOCK = True`` waits for no timer.
    """
    module = item.getparent(pytest.Module)
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]]
    if module is not None and getattr(module.obj, "JUMPING_CLOCK", False):
        return {"jumping": JumpingLoop}
    factories = {"asyncio": asyncio.new_event_loop}
    if module is not None and getattr(module.obj, "BOTH_LOOPS", False):
        factories["uvloop"] = uvloop.new_event_loop
    return factories
