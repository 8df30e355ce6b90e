from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wellhead.control.intake import MAX_DEPTH, BodyGate

MAX = 1000


@pytest.fixture
async def echo() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.post("/")
    async def answer(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    app.add_middleware(BodyGate, max_bytes=MAX)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://control",
        headers={"Content-Type": "application/json"},
    ) as client:
        yield client


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'"text"',
        '{"é": "\U0001f600"}'.encode(),
        b'"\\ud83d\\ude00"',
        nested(MAX_DEPTH),
        b" " * 998 + b"{}",
    ],
)
async def test_json_is_passed_on_as_it_came(echo: httpx.AsyncClient, body: bytes) -> None:
    answer = await echo.post("/", content=body)
    assert (answer.status_code, answer.json()) == (200, {"length": len(body)})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        ('"text"'.encode("utf-16"), "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"-Infinity", "not JSON"),
        (nested(MAX_DEPTH + 2), "deeper than 32"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "deeper than 32"),
        (b'"\\u0000"', "U+0000"),
        (b'{"\\u0000": 1}', "U+0000"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": 1e400}', '"1e400", which is beyond the numbers'),
        (b'{"a": [-1.5e999]}', "beyond the numbers"),
        (b'{"a": 1, "b": 2, "a": 3}', 'names "a" twice'),
        (b'[{"a": {"x": 1, "\\u0078": 1}}]', 'names "x" twice'),
    ],
)
async def test_what_is_no_json_or_cannot_be_stored_is_422(
    echo: httpx.AsyncClient, body: bytes, says: str
) -> None:
    answer = await echo.post("/", content=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_a_number_of_thousands_of_digits_and_deep_nesting_cost_nothing() -> None:
    app = BodyGate(FastAPI(), max_bytes=1 << 20)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as client:
        for body in (b"1" * 100_000, nested(500_000), b'{"a":' * 100_000):
            answer = await client.post("/", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422


async def test_a_body_above_the_limit_is_413_whether_it_says_so_or_not(echo: httpx.AsyncClient) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(MAX + 1):
            yield b" "

    for body in (b" " * (MAX + 1), trickle()):
        answer = await echo.post("/", content=body)
        assert answer.status_code == 413
        assert answer.json()["detail"] == "body of 1001 bytes or more, at most 1000 allowed"


@pytest.mark.parametrize(
    "media",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data"],
)
async def test_another_media_type_is_415(echo: httpx.AsyncClient, media: str) -> None:
    answer = await echo.post("/", content=b"{}", headers={"Content-Type": media})
    assert answer.status_code == 415


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br, gzip", 415), ("Identity", 200)])
async def test_a_compressed_body_is_415(echo: httpx.AsyncClient, coding: str, status: int) -> None:
    answer = await echo.post("/", content=b"{}", headers={"Content-Encoding": coding})
    assert answer.status_code == status


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_is_known_by_its_media_type_alone(echo: httpx.AsyncClient, media: str) -> None:
    answer = await echo.post("/", content=b"{}", headers={"Content-Type": media})
    assert answer.status_code == 200


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_bytes_are_answered(echo: httpx.AsyncClient, body: bytes) -> None:
    assert (await echo.post("/", content=body)).status_code in (200, 422)
