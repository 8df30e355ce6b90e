"""What may help someone whose command could not get through to the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from wellhead.errors import (
    DialError,
    Forbidden,
    SecretRejected,
    TrustError,
    Unauthorized,
    WellheadError,
)


@contextlib.contextmanager
def hint_on(kind: type[WellheadError], hint: str) -> Iterator[None]:
    """Adds ``hint`` to an error of this kind and passes it on."""
    try:
        yield
    except kind as error:
        error.add_note(hint)
        raise


@contextlib.contextmanager
def hints() -> Iterator[None]:
    """Adds the hint for an error that has one and passes it on."""
    try:
        yield
    except WellheadError as error:
        if hint := _hint(error):
            error.add_note(hint)
        raise


def _hint(error: WellheadError) -> str | None:
    """None where the message says it all."""
    match error:
        case Unauthorized():
            return "`wellhead login` keeps a key that works; a server's first one is in {data-dir}/admin-key"
        case SecretRejected():
            return "`wellhead login` keeps an API key; or give the new secret in WELLHEAD_TUNNEL_SECRET"
        case Forbidden():
            return "`wellhead keys list` with an admin key tells what each key may do"
        case TrustError(issuer_known=True):
            return None
        case TrustError():
            return "give --ca-file; a server's own authority is {data-dir}/ca.pem"
        case DialError():
            return "is the server running there? `wellhead up` starts one on this machine"
        case _:
            return None
