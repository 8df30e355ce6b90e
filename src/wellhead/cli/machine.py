"""Commands for whoever looks after a machine: is it well, what runs on it, and whom does it trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli.options import ApiKey, CaFile, Json, Url, Yes

service = typer.Typer(help="Have systemd keep a server or tunnels running.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Give the front door these commands, in the order of its help."""
    app.command()(start)
    app.command()(doctor)
    app.command()(trust)
    app.add_typer(service, name="service")


def start(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The TOML file of tunnels.")] = Path(
        "wellhead.toml"
    ),
    check: Annotated[bool, typer.Option("--check", help="Validate the file and exit.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
) -> None:
    """Put every local app that a file names on a public hostname, and follow the file."""
    from wellhead.cli.start import StartOptions, run_start

    run_start(StartOptions(file=config, check=check, url=url, api_key=api_key, ca_file=ca_file))


def doctor(
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The TOML file of settings of `wellhead up`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong here or on the way to the server, and what to do about it."""
    from wellhead.cli.doctor import DoctorOptions, run_doctor

    raise typer.Exit(
        run_doctor(DoctorOptions(url=url, api_key=api_key, ca_file=ca_file, config=config, as_json=as_json))
    )


def trust(
    ca_file: Annotated[
        Path | None, typer.Option(metavar="F", help="The CA, PEM.  [default: the one in the profile]")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Trust it no longer.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is to be done.")] = False,
    yes: Yes = False,
) -> None:
    """Have the programs and browsers of this machine trust the local CA; says first what it will do."""
    from wellhead.cli.trust import TrustOptions, run_trust

    run_trust(TrustOptions(ca_file=ca_file, remove=remove, dry_run=dry_run, yes=yes))


Program = Annotated[
    str, typer.Argument(metavar="up|start", help="What runs: a server, or the tunnels of a file.")
]
System = Annotated[bool, typer.Option("--system/--user", help="A service of the machine, or of yours.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be written or run.")]


@service.command("install")
def service_install(
    program: Program,
    system: System = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The TOML file of `up` or `start`.  [default for start: wellhead.toml]"
        ),
    ] = None,
    run_as: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="Whom a --system service runs as.  [default: who called sudo, or you]"
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write a systemd unit, start it now and at every boot; says what it did."""
    from wellhead.cli.service import InstallOptions, run_install

    run_install(InstallOptions(program=program, system=system, config=config, run_as=run_as, dry_run=dry_run))


@service.command("remove")
def service_remove(program: Program, system: System = False, dry_run: DryRun = False) -> None:
    """Stop the service and take its unit away; what it kept stays."""
    from wellhead.cli.service import run_remove

    run_remove(program, system=system, dry_run=dry_run)
