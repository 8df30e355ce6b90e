"""``wellhead profile``: the servers that this user's commands know, and the one they speak with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli.completion import known_servers
from wellhead.cli.consent import ask_first
from wellhead.cli.options import Json, Quiet, Yes
from wellhead.cli.output import tell
from wellhead.cli.table import columns, homely
from wellhead.errors import LocalStateError, SettingsError
from wellhead.model.access import last4
from wellhead.model.names import base_url
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.profile import Access, Profile

app = typer.Typer(
    help="Look at the servers that are known, and choose one.", no_args_is_help=True, rich_markup_mode=None
)

Server = Annotated[
    str,
    typer.Argument(
        metavar="URL", help="A server that is known.", show_default=False, autocompletion=known_servers
    ),
]


@app.command("show")
def show(as_json: Json = False, quiet: Quiet = False) -> None:
    """Show which servers are known, the chosen one first."""
    from wellhead.cli.asking import as_json as written
    from wellhead.profile import Profile

    profile = Profile.load()
    known = profile.known()
    if as_json:
        records = [_record(profile, url, access) for url, access in known.items()]
        tell(written({"file": str(profile.path), "servers": records, "names": dict(profile.names)}))
        return
    if quiet:
        for url in known:
            tell(escape(url))
        return
    tell(f"profile {escape(homely(profile.path))}")
    if not known:
        tell("knows no server: `wellhead up` starts one here, `wellhead login URL` takes one elsewhere")
        return
    rows = [
        (
            "*" if url == profile.url else "",
            url,
            _key(access),
            homely(access.ca_file) if access.ca_file else "",
        )
        for url, access in known.items()
    ]
    for line in columns(("", "SERVER", "KEY", "CA FILE"), rows):
        tell(line)


@app.command("use")
def use(server: Server, quiet: Quiet = False) -> None:
    """Choose a server.

    Commands and agents speak with it when they are given none.
    """
    from wellhead.profile import Profile

    profile = Profile.load()
    url, access = _known(profile, server)
    profile.choosing(url, access).save()
    if not quiet:
        tell(f"{escape(url)} is the chosen server now")


@app.command("forget")
def forget(server: Server, yes: Yes = False, quiet: Quiet = False) -> None:
    """Forget a server and its key.

    The key stays good: `wellhead keys revoke` ends one.
    """
    from wellhead.profile import Profile

    profile = Profile.load()
    url, _ = _known(profile, server)
    ask_first(f"Forget {escape(url)} and its key?", yes=yes)
    changed = profile.without(url)
    changed.save()
    if not quiet:
        tell(f"{escape(url)} is forgotten")
        if changed.url is None and changed.servers:
            tell(f"no server is chosen now: wellhead profile use {escape(next(iter(changed.servers)))}")


def _known(profile: Profile, given: str) -> tuple[str, Access]:
    """
    Raises:
        SettingsError: no such server is known.
    """
    wanted = base_url(given)
    for url, access in profile.known().items():
        if base_url(url) == wanted:
            return url, access
    raise SettingsError(f"no server {shown(given)} in {profile.path}: `wellhead profile show` lists them")


def _key(access: Access) -> str:
    if access.api_key_file is not None:
        return f"in {homely(access.api_key_file)}"
    return "none" if access.api_key is None else f"…{last4(access.api_key)}"


def _record(profile: Profile, url: str, access: Access) -> dict[str, object]:
    try:
        key = access.key()
    except (SettingsError, LocalStateError):
        key = None  # its file is told, that must do
    return {
        "url": url,
        "chosen": url == profile.url,
        "key_last4": None if key is None else last4(key),
        "api_key_file": None if access.api_key_file is None else str(access.api_key_file),
        "ca_file": None if access.ca_file is None else str(access.ca_file),
    }
