"""``wellhead certs``: certificates of passthrough tunnels, each named by its tunnel's name or id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.asking import Ask, asks, tunnel_of
from wellhead.cli.table import columns, when
from wellhead.errors import NotFound
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.client import Client
    from wellhead.model.certificates import CertificateRecord

app = typer.Typer(
    help="Look at and renew certificates of passthrough tunnels.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
@asks
def list_certificates(
    ask: Ask,
    tunnel: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|ID]", help="Only those of this tunnel.", show_default=False),
    ] = None,
    of_server: Annotated[
        bool, typer.Option("--server", help="Those of the server's own names, from a public issuer.")
    ] = False,
) -> None:
    """List the certificates that were issued, the oldest first; expired and revoked ones too."""
    if of_server:
        _list_of_server(ask)
        return
    with ask.open() as server:
        chosen = None if tunnel is None else tunnel_of(server, tunnel).id
        certificates = server.certs.list(tunnel_id=chosen)
    rows = [
        (
            each.hostname,
            each.status.value,
            each.issuer,
            "-" if each.revoked_at is not None else f"{each.days_left:.1f}",
            when(each.expires_at) or "",
            each.serial,
        )
        for each in certificates
    ]
    lines = columns(("HOSTNAME", "STATUS", "ISSUER", "DAYS LEFT", "EXPIRES", "SERIAL"), rows)
    ask.tell(certificates, lines, [escape(each.id) for each in certificates])


@app.command("renew")
@asks
def renew_certificate(
    ask: Ask,
    tunnel: Annotated[
        str,
        typer.Argument(
            metavar="NAME|ID|HOSTNAME",
            help="The tunnel, or the name of a certificate of the server's.",
            show_default=False,
        ),
    ],
) -> None:
    """Have a tunnel's agent get its next certificate now, in place of when a third of the life is left.

    A name with a dot is one of the server's own: its certificate is ordered anew at once.
    """
    with ask.open() as server:
        if "." in tunnel:
            ordered = server.certs.renew_of_server(tunnel)
            ask.tell(ordered, [f"the certificate for {escape(ordered.name)} is ordered anew"])
            return
        certificate = server.certs.renew(_newest(server, tunnel).id)
    ask.tell(
        certificate,
        [f"the agent of {escape(certificate.hostname)} renews its certificate when it looks next"],
        [escape(certificate.id)],
    )


def _list_of_server(ask: Ask) -> None:
    with ask.open() as server:
        certificates = server.certs.list_of_server()
    rows = [
        (
            each.name,
            "-" if each.days_left is None else f"{each.days_left:.1f}",
            when(each.expires_at) or "-",
            str(each.failures),
            each.reason,
        )
        for each in certificates
    ]
    lines = columns(("NAME", "DAYS LEFT", "EXPIRES", "FAILURES", "REASON"), rows)
    ask.tell(certificates, lines, [escape(each.name) for each in certificates])


def _newest(server: Client, given: str) -> CertificateRecord:
    tunnel = tunnel_of(server, given)
    if certificates := server.certs.list(tunnel_id=tunnel.id):
        return certificates[-1]
    raise NotFound(404, f"tunnel {shown(tunnel.tunnel_name)} has no certificate of its own")
