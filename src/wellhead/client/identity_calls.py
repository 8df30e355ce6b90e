"""Calls about identities: tunnels by the handles of their agents."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from wellhead.client.calls import Call, Page, in_path, place
from wellhead.client.tunnel_calls import UNCHANGED
from wellhead.model.records import Identity, TlsMode


def list_identities() -> Call[list[Identity]]:
    """Every identity that the key may see, oldest first, all at once."""
    return Call("GET", "/identities/", _identities.validate_python, repeatable=True)


def page_of_identities(*, limit: int = 100, cursor: str | None = None) -> Call[Page[Identity]]:
    """As ``list``, at most ``limit`` (1 to 1000) at a time; ``cursor`` is ``next_cursor`` of the page before.

    Raises:
        Invalid: no such limit.
        NotFound: the cursor is no place in this list.
    """
    return Call("GET", "/identities/", _read_page, query=place(limit, cursor), repeatable=True)


def get_identity(handle: str) -> Call[Identity]:
    """
    Raises:
        NotFound: no identity of this handle that the key may see.
    """
    return Call("GET", _item(handle), _identity.validate_python, repeatable=True)


def create_identity(
    handle: str,
    *,
    display_name: str | None = None,
    description: str | None = None,
    tls_mode: TlsMode = TlsMode.EDGE,
    idempotency_key: str | None = None,
) -> Call[Identity]:
    """Make an identity and its tunnel, whose name is the handle. Agents come with a key that reaches it.

    With an ``idempotency_key`` (any text that is used for this create alone) it is tried again when the
    answer is lost, and may be repeated for a day.

    Raises:
        Conflict: the handle is taken or reserved, or the idempotency key was used for something else.
        Invalid: the handle breaks a rule, or another field does.
    """
    body: dict[str, object] = {"agent_handle": handle, "tunnel": {"tls_mode": tls_mode.value}}
    if display_name is not None:
        body["display_name"] = display_name
    if description is not None:
        body["description"] = description
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return Call(
        "POST",
        "/identities/",
        _identity.validate_python,
        body=body,
        headers=headers,
        repeatable=idempotency_key is not None,
    )


def update_identity(
    handle: str, *, display_name: str | None = UNCHANGED, description: str | None = UNCHANGED
) -> Call[Identity]:
    """Change what is given; None clears.

    Raises:
        NotFound: no identity of this handle that the key may see.
        Invalid: a value breaks a rule.
    """
    given = {"display_name": display_name, "description": description}
    body: dict[str, object] = {key: item for key, item in given.items() if item is not UNCHANGED}
    return Call("PATCH", _item(handle), _identity.validate_python, body=body, repeatable=True)


def delete_identity(handle: str) -> Call[None]:
    """End an identity and its tunnel at once and for good, and the keys that are scoped to it alone.

    Raises:
        NotFound: no identity of this handle that the key may see.
    """
    return Call("DELETE", _item(handle), lambda answer: None)


@dataclass(frozen=True, slots=True)
class _Page:
    identities: list[Identity]
    next_cursor: str | None = None


_identity = TypeAdapter(Identity)
_identities = TypeAdapter(list[Identity])
_page = TypeAdapter(_Page)


def _item(handle: str) -> str:
    return f"/identities/{in_path(handle)}"


def _read_page(answer: object) -> Page[Identity]:
    page = _page.validate_python(answer)
    return Page(page.identities, page.next_cursor)
