"""What is told of an application by how it may be called."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from wellhead.errors import InputError
from wellhead.inprocess.detect import detect
from wellhead.inprocess.handler import is_awaited


class TwoSteps:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


class Meant:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Endpoint:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...


async def handler(request: Any, ctx: Any = None) -> None: ...


@pytest.mark.parametrize("app", [TwoSteps, Meant])
def test_a_class_that_answers_nothing_by_itself_is_refused(app: Any) -> None:
    with pytest.raises(InputError, match="is a class"):
        detect(app)


@pytest.mark.parametrize(
    ("app", "interface"),
    [(Meant(), "wsgi"), (Meant().__call__, "wsgi"), (Endpoint, "asgi"), (partial(handler, ctx=1), "handler")],
)
def test_an_interface_is_told(app: Any, interface: str) -> None:
    assert detect(app) == interface


def test_a_mock_is_a_handler_and_not_an_endless_search() -> None:
    assert detect(AsyncMock()) == "handler"
    is_awaited(AsyncMock())
