"""Commands for whoever looks after a machine: is it well, what runs on it, and whom does it trust."""

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


def add_to(app: typer.Typer) -> None:
    """Give the front door these commands, in the order of its help."""
    app.command()(doctor)


def doctor(
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The TOML file of settings of `wellhead up`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong here or on the way to the server, and what to do about it."""
    from wellhead.cli.doctor import DoctorOptions, run_doctor

    raise typer.Exit(
        run_doctor(DoctorOptions(url=url, api_key=api_key, ca_file=ca_file, config=config, as_json=as_json))
    )
