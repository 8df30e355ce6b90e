"""``wellhead sandbox ports``, ``url`` and ``share``: what listens in a sandbox, who may see it, and links."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.asking import Ask, asks, sandbox_of
from wellhead.cli.hints import hint_on
from wellhead.cli.sandbox_options import Port, SandboxName
from wellhead.cli.spans import seconds_of
from wellhead.cli.table import when
from wellhead.errors import InputError, SandboxState, Unavailable
from wellhead.model.ports import read_port
from wellhead.model.sandboxes import SandboxStatus
from wellhead.model.text import escape
from wellhead.model.visibility import Visibility

if TYPE_CHECKING:
    from wellhead.client.sandbox_records import SandboxInfo
    from wellhead.client.sandboxes import Sandbox

_WHO = {
    Visibility.PRIVATE: "whoever has an admin key, or a link, sees {what}",
    Visibility.TEAM: "whoever has a key of the organization, or a link, sees {what}",
    Visibility.PUBLIC: "whoever knows the name sees {what}",
}


@asks
def list_ports(
    ask: Ask,
    sandbox: SandboxName,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Stay, and show them anew as they open and close; until Ctrl-C. With --json"
            " a line each time.",
        ),
    ] = False,
) -> None:
    """List the ports that something in a sandbox listens on, with the process behind each."""
    from wellhead.cli.port_table import numbers, port_table, watch_ports

    paused = f"one that is paused goes on with `wellhead sandbox resume {escape(sandbox)}`"
    with ask.open() as server, hint_on(SandboxState, paused):
        found = sandbox_of(server, sandbox)
        if watch:
            return watch_ports(ask, found)
        ports = found.ports()
    ask.tell(ports, port_table(ports), numbers(ports))


@asks
def show_url(
    ask: Ask,
    sandbox: SandboxName,
    port: Port,
    plain: Annotated[
        bool, typer.Option("--plain", help="The one without TLS, which needs no certificate.")
    ] = False,
) -> None:
    """Print where visitors find a port of a sandbox.

    What may keep it from them is told on stderr, but for --quiet.
    """
    number = read_port(port)
    with ask.open() as server:
        found = sandbox_of(server, sandbox)
        url = found.url(number, plain=plain)
        listens = _listens(found, number)
    visibility = found.info.visibility_of(number)
    ask.tell({"url": url, "port": number, "visibility": visibility, "listens": listens}, [url], [url])
    if not ask.quiet:
        for line in _in_the_way(found.info, number, listens):
            _warn(line)


@asks
def share(
    ask: Ask,
    sandbox: SandboxName,
    port: Annotated[
        str | None,
        typer.Argument(metavar="PORT", help="The port, 1 to 65535.  [default: every one]"),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="How long the link is good: 90s, 15m, 1h, 7d.  [default: as the server is set]",
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="No link: everybody may see it.")] = False,
    team: Annotated[
        bool, typer.Option("--team", help="No link: whoever has a key of the organization may.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="No link: only whoever has an admin key may, or a link.")
    ] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Void every link to the sandbox.")] = False,
) -> None:
    """Print a link that lets anybody see a port for a while, or change who may.

    Without a PORT the link is good for every one, its number to be put in place of {port}; and a change is
    one of every port.
    """
    wanted = _visibility(public, team, private)
    number = None if port is None else read_port(port)
    _check_share(number, expires, wanted, revoke)
    seconds = None if expires is None else seconds_of("--expires", expires)
    with ask.open() as server:
        found = sandbox_of(server, sandbox)
        if revoke:
            found.revoke_links()
            return ask.tell(found.info, [f"every link to {found.id} is void"])
        if wanted is not None:
            before = found.info
            after = found.set_visibility(wanted, number)
            return ask.tell(after, _changed(before, after, number))
        link = found.share(number, expires_in=seconds)
    seen = "the port" if number is not None else "every port: its number stands in place of {port}"
    ask.tell(link, [link.url, f"until {when(link.expires_at)} whoever has it sees {seen}"], [link.url])
    if not ask.quiet and _is_public(found.info, number):
        what, them = ("every port", "them") if number is None else (f"port {number}", "it")
        _warn(f"{what} is public: everybody sees {them} without a link")


def visibilities(info: SandboxInfo) -> str:
    """``private, but 3000 public``."""
    own = ", ".join(f"{port} {of.value}" for port, of in sorted(info.port_visibility.items()))
    return f"{info.visibility.value}, but {own}" if own else info.visibility.value


def _visibility(public: bool, team: bool, private: bool) -> Visibility | None:
    """
    Raises:
        InputError: more than one.
    """
    given = {Visibility.PUBLIC: public, Visibility.TEAM: team, Visibility.PRIVATE: private}
    chosen = [visibility for visibility, wanted in given.items() if wanted]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(f'--{each.value}' for each in chosen)}: only one of them can be")
    return chosen[0] if chosen else None


def _check_share(port: int | None, expires: str | None, wanted: Visibility | None, revoke: bool) -> None:
    """
    Raises:
        InputError: options that do not go together.
    """
    if revoke and wanted is not None:
        raise InputError(f"--revoke and --{wanted.value}: one after the other")
    if revoke and port is not None:
        raise InputError(f"--revoke voids the links of every port: leave {port} out")
    if expires is not None and (revoke or wanted is not None):
        raise InputError("--expires is for a link, and this makes none")


def _changed(before: SandboxInfo, after: SandboxInfo, port: int | None) -> list[str]:
    if port is None:
        what, them, was, now = "every port", "them", visibilities(before), after.visibility
    else:
        what, them, was, now = (
            f"port {port}",
            "it",
            before.visibility_of(port).value,
            after.visibility_of(port),
        )
    told = "as before" if was == now.value else f"before: {was}"
    return [f"{what} of {after.id}: {now.value} ({told})", _WHO[now].format(what=them)]


def _is_public(info: SandboxInfo, port: int | None) -> bool:
    """Whether a port is, or all of them are."""
    if port is not None:
        return info.visibility_of(port) is Visibility.PUBLIC
    return {info.visibility, *info.port_visibility.values()} == {Visibility.PUBLIC}


def _listens(sandbox: Sandbox, port: int) -> bool | None:
    """None: it cannot be known, as it does not run, or its host does not answer."""
    if sandbox.info.status is not SandboxStatus.RUNNING:
        return None
    try:
        return any(each.port == port for each in sandbox.ports())
    except SandboxState:  # paused meanwhile
        sandbox.refresh()
        return None
    except Unavailable:
        return None


def _in_the_way(info: SandboxInfo, port: int, listens: bool | None) -> list[str]:
    """What a visitor of the URL would meet."""
    lines = []
    if listens is False:
        lines.append(f"nothing listens on port {port} of {info.id}")
    elif listens is None and info.status is SandboxStatus.RUNNING:
        lines.append(f"the host of {info.id} does not answer: nobody else is answered either")
    elif listens is None:
        resumes = info.auto_resume and info.status is SandboxStatus.PAUSED
        told = "a request resumes it" if resumes else "nobody is answered"
        lines.append(f"{info.id} is {info.status.value}: {told}")
    match info.visibility_of(port):
        case Visibility.PRIVATE:
            lines.append(f"port {port} is private: `wellhead sandbox share {info.id} {port}` makes a link")
        case Visibility.TEAM:
            lines.append(f"port {port} is for the organization's keys: others need a link")
        case Visibility.PUBLIC:
            pass
    return lines


def _warn(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
