"""The command line's front door: commands, their options, and how they end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from wellhead.cli import certs, host, identities, keys, machine, profile, sandbox, template, tunnels
from wellhead.cli.exit import ExitCode, exit_code, report
from wellhead.cli.options import ApiKey, CaFile, Carrier, TlsEnds, TunnelName, Url, UrlsOnly
from wellhead.cli.output import hush, speak_plainly, tell
from wellhead.version import VERSION

app = typer.Typer(
    name="wellhead",
    help="A public hostname for every agent and every sandbox port.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        tell(f"wellhead {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A public hostname for every agent and every sandbox port."""


@app.command()
def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="D", help="Database, keys and local CA.  [default: ~/.wellhead/server]"),
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tunnels are names under it.  [default: localhost]")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that agents dial.  [default: the domain]")
    ] = None,
    https: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where TLS is accepted.  [default: 127.0.0.1:8443]")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|off", help="Where plain HTTP is accepted.  [default: 127.0.0.1:8080]"),
    ] = None,
    with_host: Annotated[
        bool, typer.Option("--with-host", help="Run sandboxes on this machine, too.")
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate the settings and exit.")] = False,
) -> None:
    """Start a server: edge and control plane.

    It has a database and a certificate authority of its own.
    """
    from wellhead.cli.up import run_up

    flags = {
        "data_dir": None if data_dir is None else str(data_dir),
        "domain": domain,
        "zone": zone,
        "https": https,
        "http": http,
        "with_host": with_host or None,
    }
    run_up({key: value for key, value in flags.items() if value is not None}, config=config, check=check)


@app.command()
def http(
    upstream: Annotated[
        str,
        typer.Argument(
            metavar="PORT|HOST:PORT|URL",
            help="The local app: 8000, app:8000, http://…, https://…, unix:/…; h2c://… for gRPC;"
            " tls://… ends visitors' TLS itself.",
        ),
    ],
    name: TunnelName = None,
    tls_mode: TlsEnds = None,
    host_header: Annotated[
        str,
        typer.Option(
            metavar="rewrite|preserve|VALUE",
            help="The Host that the app sees: its own, the public one, or VALUE.",
        ),
    ] = "rewrite",
    upstream_http: Annotated[
        str,
        typer.Option(
            metavar="auto|1.1|2",
            help="The HTTP version that the app speaks; auto asks an https:// app, and is 2 for h2c://.",
        ),
    ] = "auto",
    upstream_ca_file: Annotated[
        Path | None,
        typer.Option(metavar="F", help="A CA to trust for an https upstream, PEM.  [default: the system's]"),
    ] = None,
    verify_upstream: Annotated[
        bool,
        typer.Option(
            "--verify-upstream/--no-verify-upstream", help="Whether an https upstream must be trusted."
        ),
    ] = True,
    carrier: Carrier = "auto",
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    quiet: UrlsOnly = False,
) -> None:
    """Put a local HTTP app on a public hostname."""
    from wellhead.cli.attending import LinkOptions
    from wellhead.cli.http import HttpOptions, run_http

    run_http(
        HttpOptions(upstream, host_header, upstream_http, upstream_ca_file, verify_upstream),
        LinkOptions(name, tls_mode, carrier, url, api_key, ca_file, quiet),
    )


@app.command("run")
def run_(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="The application, as main:app, imported from the working directory.",
        ),
    ],
    name: TunnelName = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Start it anew whenever a *.py file under this directory changes."),
    ] = False,
    interface: Annotated[
        str,
        typer.Option(metavar="auto|asgi|wsgi|handler", help="How it is called; auto tells by its arguments."),
    ] = "auto",
    factory: Annotated[
        bool, typer.Option("--factory", help="What is named makes the application when it is called.")
    ] = False,
    ws_handler: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="What answers WebSockets in its place, async (ws, ctx)."),
    ] = None,
    max_body_bytes: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Longest body of a request; beyond: 413.  [default: none]"),
    ] = None,
    tls_mode: TlsEnds = None,
    carrier: Carrier = "auto",
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    quiet: UrlsOnly = False,
) -> int | None:
    """Put an application on a public hostname.

    ASGI, WSGI, or a handler (request, ctx): it needs no server of its own.
    """
    from wellhead.cli.attending import LinkOptions
    from wellhead.cli.run import RunOptions, run_app

    options = RunOptions(target, interface, factory, ws_handler, max_body_bytes)
    link = LinkOptions(name, tls_mode, carrier, url, api_key, ca_file, quiet)
    if reload:
        from wellhead.cli.reloading import run_reloading

        return run_reloading(options, link)
    run_app(options, link)
    return None


@app.command()
def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What is served.")],
    name: TunnelName = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Serve names that begin with a dot as well.")
    ] = False,
    tls_mode: TlsEnds = None,
    carrier: Carrier = "auto",
    url: Url = None,
    api_key: ApiKey = None,
    ca_file: CaFile = None,
    quiet: UrlsOnly = False,
) -> None:
    """Put the files of a directory on a public hostname."""
    from wellhead.cli.attending import LinkOptions
    from wellhead.cli.serve import run_serve

    run_serve(directory, LinkOptions(name, tls_mode, carrier, url, api_key, ca_file, quiet), hidden=hidden)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after one verified round trip.")] = False,
) -> None:
    """Show a tunnel at work.

    A server, an app, an agent and a visitor, all on this machine.
    """
    from wellhead.cli.demo import run_demo

    run_demo(once=once)


app.add_typer(tunnels.app, name="tunnels")
app.add_typer(identities.app, name="identities")
app.add_typer(certs.app, name="certs")
app.add_typer(keys.app, name="keys")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(host.app, name="host")
app.add_typer(template.app, name="template")


@app.command()
def login(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            envvar="WELLHEAD_URL",
            help="The server, https://HOST[:PORT].  [default: the one in the profile]",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="K",
            envvar="WELLHEAD_API_KEY",
            help="The API key.  [default: typed unseen, or from stdin]",
        ),
    ] = None,
    ca_file: CaFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Check an API key at its server and keep both in the profile."""
    from wellhead.cli.login import LoginOptions, run_login
    from wellhead.model.access import Secret

    run_login(LoginOptions(url, Secret(api_key) if api_key else None, ca_file, quiet))


app.add_typer(profile.app, name="profile")
machine.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process with its code; never shows a traceback."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w")
    speak_plainly()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    command = get_command(app)
    try:
        result = command.main(arguments, prog_name="wellhead", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.OK
    except BrokenPipeError:
        hush()
        return ExitCode.OK
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return ExitCode.USAGE
        _point_to_help(error)
        report(error)
        return exit_code(error)
    except (Exception, KeyboardInterrupt) as error:
        report(error)
        return exit_code(error)


def _point_to_help(error: TyperException) -> None:
    context = getattr(error, "ctx", None)
    if context is not None:
        error.add_note(f"{context.command_path} --help lists what there is")
