"""``wellhead tunnels``: the records of tunnels. Where an id is expected, a name will do."""

from __future__ import annotations

import enum
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli.asking import Ask, asks, tunnel_of
from wellhead.cli.completion import tunnel_names
from wellhead.cli.consent import ask_first
from wellhead.cli.hints import hint_on
from wellhead.cli.options import Yes
from wellhead.cli.output import tell
from wellhead.cli.table import columns, facts, shown_once, when
from wellhead.errors import Conflict, InputError
from wellhead.model.records import TlsMode
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.model.access import Secret
    from wellhead.model.records import Tunnel

app = typer.Typer(help="Make, look at and remove tunnels.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str,
    typer.Argument(metavar="NAME|ID", help="The tunnel.", show_default=False, autocompletion=tunnel_names),
]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="A note for people; '' for none.")]
Metadata = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="An object for programs, at most 4096 bytes; '{}' for none."),
]


class Status(enum.Enum):
    """The statuses that a list can be asked for, in the words of this command line."""

    AWAITING_CERT = "awaiting-cert"
    ACTIVE = "active"
    PENDING_REMOVAL = "pending-removal"


@app.command("list")
@asks
def list_tunnels(
    ask: Ask,
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    connected: Annotated[
        bool | None,
        typer.Option("--connected/--not-connected", help="Only those with, or without, an agent."),
    ] = None,
) -> None:
    """List the tunnels, the oldest first."""
    from wellhead.model.records import TunnelStatus

    wanted = None if status is None else TunnelStatus[status.name]
    with ask.open() as server:
        tunnels = server.tunnels.list(status=wanted, connected=connected)
    rows = [
        (tunnel.tunnel_name, _status(tunnel), _yes(tunnel.currently_connected), _url(tunnel))
        for tunnel in tunnels
    ]
    lines = columns(("NAME", "STATUS", "CONNECTED", "URL"), rows) if rows else ["no tunnels"]
    ask.tell(tunnels, lines, [_name(tunnel) for tunnel in tunnels])


@app.command("get")
@asks
def get_tunnel(ask: Ask, tunnel: Name) -> None:
    """Show a tunnel."""
    with ask.open() as server:
        found = tunnel_of(server, tunnel)
    ask.tell(found, described(found), [escape(found.id)])


@app.command("create")
@asks
def create_tunnel(
    ask: Ask,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="3 to 63 of a-z, 0-9 and -.", show_default=False)
    ],
    tls_mode: Annotated[
        TlsMode, typer.Option(help="Where visitors' TLS ends: at the edge, or (passthrough) at the agent.")
    ] = TlsMode.EDGE,
    description: Description = None,
    metadata: Metadata = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="For a script: the same text finds the same tunnel for a day."),
    ] = None,
) -> None:
    """Make a tunnel. Its connect secret is shown this once."""
    given = _metadata(metadata)
    once = idempotency_key or secrets.token_urlsafe(16)  # so that a lost answer can be asked for again
    with ask.open() as server:
        with hint_on(Conflict, "choose another; `wellhead tunnels list` shows the names that are yours"):
            made = server.tunnels.create(
                name,
                tls_mode=tls_mode,
                description=description or None,
                metadata=given,
                idempotency_key=once,
            )
    lines = [*described(made.tunnel), "", *shown_once("connect secret", made.connect_secret)]
    secret = made.connect_secret.reveal()
    ask.tell({"tunnel": made.tunnel, "connect_secret": secret}, lines, [secret])


@app.command("update")
@asks
def update_tunnel(ask: Ask, tunnel: Name, description: Description = None, metadata: Metadata = None) -> None:
    """Change a tunnel's description or metadata.

    What is not given stays.
    """
    changes: dict[str, Any] = {}
    if description is not None:
        changes["description"] = description or None
    if metadata is not None:
        changes["metadata"] = _metadata(metadata) or None
    if not changes:
        raise InputError("nothing to change: give --description or --metadata")
    with ask.open() as server:
        changed = server.tunnels.update(tunnel_of(server, tunnel).id, **changes)
    ask.tell(changed, described(changed))


@app.command("delete")
@asks
def delete_tunnel(ask: Ask, tunnel: Name, yes: Yes = False) -> None:
    """Stop a tunnel's traffic.

    For 24 hours it may be restored; then it is gone and its name is free.
    """
    with ask.open() as server:
        found = tunnel_of(server, tunnel)
        ask_first(f"Stop all traffic of tunnel {_name(found)}?", yes=yes)
        deleted = server.tunnels.delete(found.id)
    until = when(deleted.restore_deadline_at)
    ask.tell(
        deleted,
        [
            f"{_name(deleted)} gets no more traffic and will be removed",
            f"until {until}: wellhead tunnels restore {_name(deleted)}",
        ],
    )


@app.command("restore")
@asks
def restore_tunnel(ask: Ask, tunnel: Name) -> None:
    """Take a delete back."""
    with ask.open() as server:
        found = tunnel_of(server, tunnel)
        with hint_on(Conflict, "only a tunnel that is pending removal has something to be taken back"):
            restored = server.tunnels.restore(found.id)
    ask.tell(restored, [f"{_name(restored)} is {_status(restored)} again"])


@app.command("force-delete")
@asks
def force_delete_tunnel(ask: Ask, tunnel: Name, yes: Yes = False) -> None:
    """End a deleted tunnel now.

    It cannot be restored, and its name is free.
    """
    with ask.open() as server:
        found = tunnel_of(server, tunnel)
        ask_first(f"End tunnel {_name(found)} for good?", yes=yes)
        with hint_on(Conflict, f"delete it first: wellhead tunnels delete {_name(found)}"):
            ended = server.tunnels.force_delete(found.id)
    ask.tell(ended, [f"{_name(ended)} is gone; its name is free"])


@app.command("rotate-secret")
@asks
def rotate_secret(
    ask: Ask,
    tunnel: Name,
    hard: Annotated[bool, typer.Option("--hard", help="End live sessions too.")] = False,
    yes: Yes = False,
) -> None:
    """Give a tunnel a new connect secret.

    It is shown this once; the old one opens no new session.
    """
    with ask.open() as server:
        found = tunnel_of(server, tunnel)
        cost = "and end its sessions" if hard else "(live sessions stay)"
        ask_first(f"Replace the connect secret of tunnel {_name(found)} {cost}?", yes=yes)
        secret = server.tunnels.rotate_secret(found.id, hard=hard)
    # Told before anything else can go wrong: nobody can tell it again.
    ask.tell({"connect_secret": secret.reveal()}, shown_once("connect secret", secret), [secret.reveal()])
    if (kept := _keep(server.url, found, secret)) is not None and not ask.quiet and not ask.as_json:
        tell(f"                kept in {kept}, where agents of this user find it")


def _keep(url: str, tunnel: Tunnel, secret: Secret) -> Path | None:
    """Put the secret in the place of the old one, where an agent of this user had kept that."""
    from wellhead.agent.state import Kept, TunnelState
    from wellhead.settings import home

    state = TunnelState(home(), tunnel.tunnel_name)
    kept = state.load(url)
    if kept is None or kept.tunnel_id != tunnel.id or kept.connect_secret is None:
        return None
    state.save(url, Kept(tunnel.id, secret))
    return state.path


def described(tunnel: Tunnel) -> list[str]:
    """All that a person may want to know of a tunnel."""
    return facts(
        [
            ("name", tunnel.tunnel_name),
            ("id", tunnel.id),
            ("status", _status(tunnel)),
            ("TLS ends", "at the agent" if tunnel.tls_mode is TlsMode.PASSTHROUGH else None),
            ("certificate ends", when(tunnel.cert_expires_at)),
            ("restore until", when(tunnel.restore_deadline_at)),
            *(("url", url) for url in tunnel.public_urls),
            ("connected", _yes(tunnel.currently_connected)),
            ("agent's address", tunnel.last_connected_ip_addr),
            ("agent's version", tunnel.agent_version),
            ("last connected", when(tunnel.last_connected_at)),
            ("last disconnected", when(tunnel.last_disconnected_at)),
            ("description", tunnel.description),
            ("metadata", json.dumps(tunnel.metadata, ensure_ascii=False) if tunnel.metadata else None),
            ("created", when(tunnel.created_at)),
            ("updated", when(tunnel.updated_at)),
        ]
    )


def _name(tunnel: Tunnel) -> str:
    return escape(tunnel.tunnel_name)


def _url(tunnel: Tunnel) -> str:
    return next(iter(tunnel.public_urls), tunnel.public_host)


def _status(tunnel: Tunnel) -> str:
    return tunnel.status.name.lower().replace("_", " ")


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _metadata(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"--metadata {shown(text)} is not a JSON object")
    return value
