"""How the routes of sandboxes and hosts differ from the others: their errors, their keys, their other names.

They answer programs that were written for another server. Source: wrenn-sandboxes, "4. Lifecycle and files
API"; the prefix ``/legacy`` is for its older clients, "5.6 Running the real SDK against our server".
"""

from __future__ import annotations

from typing import Final

API: Final = "/api/v1"
LEGACY: Final = "/legacy"
_SANDBOXES = (f"{API}/sandboxes", f"{API}/snapshots", f"{API}/events")
_NESTED = (*_SANDBOXES, f"{API}/capsules", f"{API}/hosts", LEGACY)
_PREFIXES = tuple(path + "/" for path in _NESTED)
_OTHER_NAMES = {f"{API}/capsules/": f"{API}/sandboxes/"}

CODES: Final = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "invalid_request",
    422: "invalid_request",
    429: "rate_limited",
    500: "internal_error",
    501: "invalid_request",
    502: "agent_error",
    503: "unavailable",
}


def is_spoken(path: str) -> bool:
    """Whether a request's path is of these routes, in whichever spelling."""
    return (path + "/").startswith(_PREFIXES)


def code_of(status: int) -> str:
    """The word for a status that has no closer one."""
    return CODES.get(status, "internal_error" if status >= 500 else "invalid_request")


def plain(path: str) -> tuple[str, bool]:
    """The spelling of a path by which its route is declared, and whether ``/legacy`` was asked for.

    What has no such route under ``/legacy`` stays as it is, and is found nowhere.
    """
    legacy = path.startswith(LEGACY + "/")
    slashed = (path.removeprefix(LEGACY) if legacy else path) + "/"
    for other, name in _OTHER_NAMES.items():
        if slashed.startswith(other):
            slashed = name + slashed.removeprefix(other)
    if legacy and not slashed.startswith(tuple(known + "/" for known in _SANDBOXES)):
        return path, True
    return slashed[:-1], legacy
