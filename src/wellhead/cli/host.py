"""``wellhead host``: this machine as one that runs sandboxes, and all such machines of the organization."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.asking import Ask, asks
from wellhead.cli.consent import ask_first
from wellhead.cli.hints import hint_on, hints
from wellhead.cli.options import CaFile, Url, Yes
from wellhead.cli.output import tell
from wellhead.cli.table import columns, facts, shown_once, when
from wellhead.errors import Conflict, InputError, NotFound, SettingsError
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.client import Client
    from wellhead.host.app import Facts
    from wellhead.model.sandbox_records import Host
    from wellhead.settings import HostProgramSettings

app = typer.Typer(help="Run sandboxes on a machine.", no_args_is_help=True, rich_markup_mode=None)

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="What the host keeps.  [default: ~/.wellhead/host]"),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="auto|namespace|process",
        help="How sandboxes are run: isolated, as root on Linux; or as plain processes, which are not."
        "  [default: auto]",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings.")]
LogLevel = Annotated[str, typer.Option(metavar="debug|info|warning|error", help="What is logged, on stderr.")]
HostName = Annotated[str, typer.Argument(metavar="ID|NAME", help="The host.", show_default=False)]


@app.command("create-token")
@asks
def create_token(
    ask: Ask,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="For people.  [default: what the machine says]")
    ] = None,
) -> None:
    """Let a machine join as a host. The token is shown this once, and good once, for an hour."""
    with ask.open() as server:
        made = server.hosts.create(name)
        url = server.url
    token = made.token.reveal()
    lines = [
        *facts([("host", made.host.id), ("good until", when(made.expires_at))]),
        "",
        *shown_once("token", made.token),
        "",
        f"on that machine: wellhead host join --url {url} --token-file FILE",
    ]
    ask.tell({"host": made.host, "token": token, "expires_at": made.expires_at}, lines, [token])


@app.command("list")
@asks
def list_hosts(ask: Ask) -> None:
    """List the hosts, the oldest first."""
    with ask.open() as server:
        hosts = server.hosts.list()
    rows = [
        (
            host.id,
            host.name,
            host.status.value,
            host.runtime or "",
            str(host.sandboxes),
            when(host.last_seen_at) or "",
        )
        for host in hosts
    ]
    titles = ("ID", "NAME", "STATUS", "RUNTIME", "SANDBOXES", "LAST SEEN")
    ask.tell(hosts, columns(titles, rows) if rows else ["no hosts"], [escape(host.id) for host in hosts])


@app.command("get")
@asks
def get_host(ask: Ask, host: HostName) -> None:
    """Show a host."""
    with ask.open() as server:
        found = _host_of(server, host)
    ask.tell(found, _described(found), [found.status.value])


@app.command("drain")
@asks
def drain_host(
    ask: Ask,
    host: HostName,
    undo: Annotated[bool, typer.Option("--undo", help="Let it take sandboxes again.")] = False,
) -> None:
    """Have a host take no new sandboxes. Those that it has go on."""
    with ask.open() as server:
        changed = server.hosts.update(_host_of(server, host).id, draining=not undo)
    ask.tell(changed, [f"{escape(changed.name)} is {changed.status.value}"])


@app.command("rm")
@asks
def remove_host(
    ask: Ask,
    host: HostName,
    force: Annotated[bool, typer.Option("--force", help="With its sandboxes and snapshots.")] = False,
    yes: Yes = False,
) -> None:
    """Forget a host: it cannot come back."""
    with ask.open() as server:
        found = _host_of(server, host)
        what = "with its sandboxes and snapshots " if force else ""
        ask_first(f"Forget host {escape(found.name)} {what}for good?", yes=yes)
        with hint_on(Conflict, "--force ends them"):
            server.hosts.delete(found.id, force=force)
    ask.tell({"id": found.id}, [f"{escape(found.name)} is no host any more"])


@app.command("join")
def join(
    token: Annotated[
        str | None,
        typer.Option(metavar="T", envvar="WELLHEAD_HOST_TOKEN", help="Of `wellhead host create-token`."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file that holds the token; - is stdin.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For people.  [default: the token's, or the machine's]"),
    ] = None,
    only_join: Annotated[bool, typer.Option("--only-join", help="Do not run then.")] = False,
    runtime: Runtime = None,
    state: State = None,
    config: Config = None,
    log_level: LogLevel = "info",
    url: Url = None,
    ca_file: CaFile = None,
) -> None:
    """Make this machine a host, and run it until a signal."""
    from wellhead import logs
    from wellhead.host.join import JoinOptions
    from wellhead.host.main import run_join
    from wellhead.model.access import Secret

    settings = _settings(config, runtime)
    secret = Secret(_token(token, token_file))
    logs.configure(_level(log_level))
    directory = _state(state)
    with hints():
        membership = run_join(JoinOptions(directory, secret, url, ca_file, name), settings)
    if only_join:
        tell(f"joined {membership.url} as {membership.host_id}; `wellhead host run` runs it")
        return
    _run(settings, directory)


@app.command("run")
def run(
    runtime: Runtime = None, state: State = None, config: Config = None, log_level: LogLevel = "info"
) -> None:
    """Run sandboxes on this machine, which has joined before, until a signal.

    Sandboxes go on when it ends, for its next start to find.
    """
    from wellhead import logs

    settings = _settings(config, runtime)
    logs.configure(_level(log_level))
    _run(settings, _state(state))


@app.command("status")
def status(state: State = None) -> None:
    """Say whether this machine is a host, and of what server."""
    from wellhead.host import main

    directory = _state(state)
    found = main.status(directory)
    if found is None:
        raise NotFound(404, f"this machine is no host: nothing is in {directory}")
    member = found.membership
    told = [
        ("host", member.host_id),
        ("server", member.url),
        ("runs", "yes" if found.runs else "no"),
        ("state", str(directory)),
    ]
    for line in facts(told):
        tell(line)


@app.command("leave")
def leave(state: State = None, runtime: Runtime = None, config: Config = None, yes: Yes = False) -> None:
    """End every sandbox of this machine, and forget that it is a host."""
    from wellhead.host import main

    directory = _state(state)
    settings = _settings(config, runtime)
    ask_first("End every sandbox of this machine?", yes=yes)
    count = main.leave(directory, settings)
    tell(f"{count} sandboxes were ended; this machine is no host any more")


def _run(settings: HostProgramSettings, state: Path) -> None:
    from wellhead.host import main

    def ready(told: Facts) -> None:
        tell(f"online host={told.host} runtime={told.runtime} sandboxes={told.sandboxes}")

    options = main.RunOptions(settings, state, destroy_at_end=not settings.host_keep_sandboxes)
    with hints(), hint_on(SettingsError, "wellhead host join makes this machine a host"):
        main.run(options, ready)


def _settings(config: Path | None, runtime: str | None) -> HostProgramSettings:
    from wellhead.settings import HostProgramSettings

    return HostProgramSettings.load(config, {"host_runtime": runtime})


def _state(given: Path | None) -> Path:
    from wellhead.host.main import default_state

    return given if given is not None else default_state()


def _level(given: str) -> str:
    if given not in ("debug", "info", "warning", "error"):
        raise InputError(f"--log-level {shown(given)} is none of debug, info, warning, error")
    return given


def _token(token: str | None, file: Path | None) -> str:
    import sys

    from wellhead import private

    if (token is None) == (file is None):
        raise InputError("a token is needed: give --token-file, WELLHEAD_HOST_TOKEN or --token")
    if token is not None:
        return token.strip()
    assert file is not None
    return (sys.stdin.read() if str(file) == "-" else private.read_kept(file)).strip()


def _host_of(server: Client, given: str) -> Host:
    hosts = server.hosts.list()
    if by_id := [host for host in hosts if host.id == given]:
        return by_id[0]
    named = [host for host in hosts if host.name == given]
    if len(named) > 1:
        raise InputError(f"{len(named)} hosts have the name {shown(given)}: give the id of one")
    if not named:
        raise NotFound(404, f"no host {shown(given)} at {server.url}")
    return named[0]


def _described(host: Host) -> list[str]:
    return facts(
        [
            ("name", host.name),
            ("id", host.id),
            ("status", host.status.value),
            ("runtime", host.runtime),
            ("processors", _taken(host.vcpus, host.vcpus_reserved, "")),
            ("memory", _taken(host.memory_mb, host.memory_mb_reserved, " MB")),
            ("disk", _taken(host.disk_mb, host.disk_mb_reserved, " MB")),
            ("sandboxes", str(host.sandboxes)),
            ("templates", " ".join(host.templates) or None),
            ("address", host.address),
            ("program", host.agent),
            ("last seen", when(host.last_seen_at)),
            ("created", when(host.created_at)),
        ]
    )


def _taken(whole: float | None, taken: float, unit: str) -> str | None:
    return None if whole is None else f"{taken:g} of {whole:g}{unit} taken"
