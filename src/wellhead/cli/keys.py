"""``wellhead keys``: API keys. Where an id is expected, a label will do that one key alone has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.asking import Ask, asks, identity_of, tunnel_of
from wellhead.cli.completion import tunnel_names
from wellhead.cli.consent import ask_first
from wellhead.cli.options import Yes
from wellhead.cli.spans import read_span
from wellhead.cli.table import columns, facts, shown_once, when
from wellhead.errors import InputError, NotFound
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.client import Client
    from wellhead.model.records import KeyRecord

app = typer.Typer(help="Make, look at and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create")
@asks
def create_key(
    ask: Ask,
    label: Annotated[
        str, typer.Argument(metavar="LABEL", help="What or who has this key.", show_default=False)
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="admin|tunnel:NAME",
            help="What it may do: everything, or read one tunnel and answer for it. May be repeated.",
            show_default=False,
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="HANDLE",
            help="In place of --scope: the identity that it is for.",
            autocompletion=tunnel_names,
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="A note for people.")] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN|TIME", help="12h, 30d, 2030-01-31, 2030-01-31T12:00:00Z.  [default: never]"
        ),
    ] = None,
) -> None:
    """Make an API key. It is shown this once."""
    if bool(scope) == (identity is not None):
        raise InputError("a key is for scopes or for an identity: give --scope or --identity")
    end = None if expires is None else end_of(expires, datetime.now(UTC))
    with ask.open() as server:
        scopes = [_scope(server, given) for given in scope or ()]
        identity_id = None if identity is None else identity_of(server, identity).id
        made = server.keys.create(
            label, scopes=scopes, identity=identity_id, description=description or None, expires_at=end
        )
    key = made.api_key.reveal()
    lines = [*_described(made.record), "", *shown_once("API key", made.api_key)]
    ask.tell({"api_key": key, "record": made.record}, lines, [key])


@app.command("list")
@asks
def list_keys(ask: Ask) -> None:
    """List the API keys, the oldest first; expired and revoked ones too."""
    with ask.open() as server:
        keys = server.keys.list()
    rows = [
        (
            key.id,
            key.status.value,
            f"…{key.last4}",
            when(key.expires_at) or "never",
            key.label,
            " ".join(key.scopes),
        )
        for key in keys
    ]
    lines = columns(("ID", "STATUS", "KEY", "EXPIRES", "LABEL", "SCOPES"), rows)
    ask.tell(keys, lines, [escape(key.id) for key in keys])


@app.command("revoke")
@asks
def revoke_key(
    ask: Ask,
    key: Annotated[str, typer.Argument(metavar="ID|LABEL", help="The key.", show_default=False)],
    yes: Yes = False,
) -> None:
    """End an API key, and the sessions that it let in."""
    with ask.open() as server:
        found = _key_of(server, key)
        ask_first(f"Revoke key {shown(found.label)} (…{escape(found.last4)}) for good?", yes=yes)
        revoked = server.keys.revoke(found.id)
    ask.tell(revoked, [f"key {shown(revoked.label)} (…{escape(revoked.last4)}) is {revoked.status.value}"])


def end_of(text: str, now: datetime) -> datetime:
    """The time that is meant by a span from now, a date (its beginning, UTC) or a time.

    Raises:
        InputError: none of these.
    """
    if (span := read_span(text)) is not None:
        return now + span
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--expires {shown(text)} is neither a span such as 30d nor a time") from None
    return end if end.tzinfo is not None else end.replace(tzinfo=UTC)


def _scope(server: Client, given: str) -> str:
    """A scope as the server wants it: with a tunnel's id, whether an id or a name was given."""
    kind, separator, tunnel = given.partition(":")
    if kind == "tunnel" and tunnel:
        return f"tunnel:{tunnel_of(server, tunnel).id}"
    return given


def _key_of(server: Client, given: str) -> KeyRecord:
    from wellhead.model.records import KeyStatus

    keys = server.keys.list()
    if found := [key for key in keys if key.id == given.lower()]:
        return found[0]
    named = [key for key in keys if key.label == given and key.status is not KeyStatus.REVOKED]
    if len(named) > 1:
        ids = ", ".join(escape(key.id) for key in named[:5])
        raise InputError(
            f"{len(named)} keys have the label {shown(given)}: give the id of one, such as {ids}"
        )
    if not named:
        raise NotFound(404, f"no key {shown(given)} at {server.url}")
    return named[0]


def _described(key: KeyRecord) -> list[str]:
    return facts(
        [
            ("label", key.label),
            ("description", key.description),
            ("id", key.id),
            ("scopes", " ".join(key.scopes)),
            ("expires", when(key.expires_at) or "never"),
            ("created", when(key.created_at)),
        ]
    )
