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
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no line per request, only how the tunnels do.")
    ] = False,
) -> None:
    """Put the local apps of a file on public hostnames.

    The file is followed: what changes in it is changed while the rest runs on.
    """
    from wellhead.cli.start import StartOptions, run_start

    run_start(StartOptions(file=config, check=check, url=url, api_key=api_key, ca_file=ca_file, quiet=quiet))


def doctor(
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The TOML file of settings of `wellhead up`.")
    ] = None,
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print what is not as it should be, and nothing else.")
    ] = False,
) -> None:
    """Say what is wrong, and what to do about it.

    It looks at this machine and at the way to the server, and changes nothing.
    """
    from wellhead.cli.doctor import DoctorOptions, run_doctor

    raise typer.Exit(
        run_doctor(
            DoctorOptions(
                url=url, api_key=api_key, ca_file=ca_file, config=config, as_json=as_json, quiet=quiet
            )
        )
    )


def trust(
    ca_file: Annotated[
        Path | None, typer.Option(metavar="F", help="The CA, PEM.  [default: the one in the profile]")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Trust it no longer.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is to be done.")] = False,
    yes: Yes = False,
) -> None:
    """Have this machine trust the local CA, or no longer.

    Its programs and browsers; it says first what it will do.
    """
    from wellhead.cli.trust import TrustOptions, run_trust

    run_trust(TrustOptions(ca_file=ca_file, remove=remove, dry_run=dry_run, yes=yes))


Program = Annotated[
    str,
    typer.Argument(
        metavar="up|start",
        help="What runs: a server, or the tunnels of a file.",
        autocompletion=lambda: ["up", "start"],
    ),
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
    """Write a systemd unit, and start it.

    Now and at every boot; it says what it did.
    """
    from wellhead.cli.service import InstallOptions, run_install

    run_install(InstallOptions(program=program, system=system, config=config, run_as=run_as, dry_run=dry_run))


@service.command("remove")
def service_remove(program: Program, system: System = False, dry_run: DryRun = False) -> None:
    """Stop the service and take its unit away.

    What it kept stays.
    """
    from wellhead.cli.service import run_remove

    run_remove(program, system=system, dry_run=dry_run)
