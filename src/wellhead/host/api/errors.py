"""Errors as visitors are told them: ``{"error": {"code", "message"}}``.

Source: wrenn-sandboxes, "Lifecycle and files API" and "Error mapping".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wellhead.errors import HostError

_WORDS = {404: "not_found", 405: "method_not_allowed"}


def problem(error: HostError) -> JSONResponse:
    """The answer that says what failed."""
    return _answer(error.status, error.code, message_of(error))


def message_of(error: HostError) -> str:
    return str(error) or error.detail


def _host_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HostError)
    return problem(error)


def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _WORDS.get(error.status_code, "invalid_request")
    return _answer(error.status_code, code, error.detail, error.headers)


def _unforeseen(request: Request, error: Exception) -> Response:
    return _answer(500, "internal_error", "the host failed, and has logged why")


def _answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


HANDLERS: dict[type[Exception] | int, Callable[[Request, Exception], Response]] = {
    HostError: _host_error,
    HTTPException: _http_exception,
    Exception: _unforeseen,
}
