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
Json = Annotated[bool, typer.Option("--json", help="Print the records as JSON.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print names, ids or a new secret, and nothing else.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
