"""``wellhead identities``: tunnels by the handle of the agent that each belongs to."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.asking import Ask, asks, identity_of
from wellhead.cli.completion import tunnel_names
from wellhead.cli.consent import ask_first
from wellhead.cli.hints import hint_on
from wellhead.cli.options import Yes
from wellhead.cli.table import columns, facts, when
from wellhead.cli.tunnels import Description, described
from wellhead.errors import Conflict
from wellhead.model.records import TlsMode
from wellhead.model.text import escape

if TYPE_CHECKING:
    from wellhead.model.records import Identity

app = typer.Typer(
    help="Make, look at and remove agents' identities.", no_args_is_help=True, rich_markup_mode=None
)

Handle = Annotated[
    str,
    typer.Argument(metavar="HANDLE", help="The agent.", show_default=False, autocompletion=tunnel_names),
]


@app.command("create")
@asks
def create_identity(
    ask: Ask,
    handle: Annotated[
        str, typer.Argument(metavar="HANDLE", help="3 to 63 of a-z, 0-9 and -.", show_default=False)
    ],
    display_name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The name for people.  [default: the handle]")
    ] = None,
    description: Description = None,
    tls_mode: Annotated[
        TlsMode, typer.Option(help="Where visitors' TLS ends: at the edge, or (passthrough) at the agent.")
    ] = TlsMode.EDGE,
) -> None:
    """Make an identity and its tunnel.

    Its agent comes with a key: wellhead keys create LABEL --identity HANDLE
    """
    once = secrets.token_urlsafe(16)  # so that a lost answer can be asked for again
    with ask.open() as server, hint_on(Conflict, "choose another; a handle is a tunnel's name too"):
        made = server.identities.create(
            handle,
            display_name=display_name,
            description=description or None,
            tls_mode=tls_mode,
            idempotency_key=once,
        )
    ask.tell(made, _described(made), [escape(made.id)])


@app.command("list")
@asks
def list_identities(ask: Ask) -> None:
    """List the identities, the oldest first."""
    with ask.open() as server:
        found = server.identities.list()
    rows = [
        (
            identity.agent_handle,
            identity.tunnel.status.name.lower().replace("_", " "),
            "yes" if identity.tunnel.currently_connected else "no",
            identity.display_name or "",
            when(identity.created_at) or "",
        )
        for identity in found
    ]
    lines = columns(("HANDLE", "TUNNEL", "CONNECTED", "NAME", "CREATED"), rows) if rows else ["no identities"]
    ask.tell(found, lines, [escape(identity.agent_handle) for identity in found])


@app.command("get")
@asks
def get_identity(ask: Ask, handle: Handle) -> None:
    """Show an identity and its tunnel."""
    with ask.open() as server:
        found = identity_of(server, handle)
    ask.tell(found, _described(found), [escape(found.id)])


@app.command("delete")
@asks
def delete_identity(ask: Ask, handle: Handle, yes: Yes = False) -> None:
    """End an identity, its tunnel and its keys.

    It cannot be restored, and its handle is free.
    """
    with ask.open() as server:
        found = identity_of(server, handle)
        ask_first(f"End {escape(found.agent_handle)}, its tunnel and its keys for good?", yes=yes)
        server.identities.delete(found.agent_handle)
    told = f"{escape(found.agent_handle)} is gone, with its tunnel and its keys"
    ask.tell({"agent_handle": found.agent_handle, "id": found.id}, [told])


def _described(identity: Identity) -> list[str]:
    named = facts([("handle", identity.agent_handle), ("display name", identity.display_name)])
    return [*named, "", *described(identity.tunnel)]
