"""Options that many commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        metavar="BASE", envvar="WELLHEAD_URL", help="The server.  [default: the one in the profile]"
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="K", envvar="WELLHEAD_API_KEY", help="An API key.  [default: the one in the profile]"
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(metavar="F", envvar="WELLHEAD_CA_FILE", help="A CA to trust for the server, PEM."),
]
TunnelName = Annotated[
    str | None,
    typer.Option("--name", metavar="N", help="The tunnel's name.  [default: one is made up and remembered]"),
]
TlsEnds = Annotated[
    str | None,
    typer.Option(
        "--tls-mode",
        metavar="edge|passthrough",
        help="Where visitors' TLS ends: at the server, or here, with a key that stays here."
        "  [default: as the tunnel is; edge for a new one]",
    ),
]
Carrier = Annotated[
    str,
    typer.Option(
        metavar="auto|mux|h2",
        help="How the connection with the server is used; auto offers both, and the server chooses.",
    ),
]
UrlsOnly = Annotated[bool, typer.Option("--quiet", "-q", help="Print the public URLs and nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print names, ids or a new secret, and nothing else.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
