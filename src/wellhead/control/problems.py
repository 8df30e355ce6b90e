"""How the control plane says no: a sentence and a status, and nothing a stranger should not see."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control import dialect
from wellhead.errors import ApiError, HostError, Retry
from wellhead.logs import Log
from wellhead.model.text import shown

_log = Log("wellhead.control")
_ANY = re.compile(r"\{[a-z_]+\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of every refusal."""

    detail: str


@dataclass(frozen=True, slots=True)
class CodedDetail:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CodedProblem:
    """The body of every refusal of the routes of sandboxes and hosts."""

    error: CodedDetail


class Refusal(JSONResponse):
    """Says it as the route's callers understand it."""

    def __init__(self, status: int, detail: str, headers: dict[str, str], code: str) -> None:
        super().__init__({"detail": detail}, status, headers)
        self._coded = {"error": {"code": code or dialect.code_of(status), "message": detail}}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if dialect.is_spoken(scope["path"]):
            self.body = self.render(self._coded)
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def problem(
    status: int, detail: str, retry_after_seconds: float | None = None, reason: str = "", code: str = ""
) -> Refusal:
    """``reason`` is a limit's word, which the edge counts and logs; ``code`` is closer than the status."""
    headers = {}
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))
    if reason:
        headers["X-Limit"] = reason
    return Refusal(status, detail, headers, code)


def said(status: int, body: object) -> JSONResponse:
    """A refusal whose detail is more than a sentence; ``body`` is a record."""
    return JSONResponse(TypeAdapter(object).dump_python(body, mode="json"), status)


def install(app: FastAPI) -> None:
    """Give every error that a route can raise its answer."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HostError, _host_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return problem(error.status, error.detail, error.retry_after_seconds, error.reason)


async def _host_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HostError)
    wait = 1 if error.retry is Retry.LATER else None
    return problem(error.status, str(error), wait, code=error.code)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = problem(error.status_code, str(error.detail).lower())
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """What the path understands. Starlette names those of one route; here each method has its own."""
    path, paths = request.scope["path"], request.app.openapi()["paths"]
    here = [
        described
        for template, described in paths.items()
        if path == template or (path not in paths and re.fullmatch(_ANY.sub("[^/]+", template), path))
    ]
    methods = {method.upper() for described in here for method in described}
    methods = methods or {"GET"}  # a page that is not in the document
    return methods | {"HEAD"} if "GET" in methods else methods


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(422, "; ".join(_sentences(error.errors())))


def _sentences(errors: Sequence[Any]) -> list[str]:
    """One sentence a field, of the first few: which, the value where it is short, and the rule."""
    return [_sentence(error) for error in errors[:5]]


def _sentence(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
    if cause := error.get("ctx", {}).get("error"):
        return str(cause)
    rule = str(error["msg"])
    given = error.get("input")
    value = f" {shown(str(given))}" if isinstance(given, str | int | float) else ""
    if error["type"] == "missing":
        return f"{shown(where)} is missing"
    if error["type"] == "extra_forbidden":
        return f"{shown(where)} is not a field of this request"
    return f"{shown(where)}{value}: {rule[:1].lower() + rule[1:]}"


class Faults:
    """The outermost layer: a fault of ours is logged once, with its traceback, and answered by a constant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            _log.error("request failed", error, method=scope["method"], path=scope["path"])
            if not started:
                await problem(500, "internal error")(scope, receive, send)
