"""``wellhead login``: a server and a key for it, checked and kept in the profile."""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path

from wellhead.cli.asking import Ask
from wellhead.cli.hints import hints
from wellhead.cli.output import tell
from wellhead.cli.table import facts, homely
from wellhead.errors import InputError
from wellhead.model.access import Secret, last4
from wellhead.model.names import base_url
from wellhead.profile import Access, Profile


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """The command line of ``wellhead login``, not yet checked."""

    url: str | None
    api_key: Secret | None
    ca_file: Path | None
    quiet: bool


def run_login(options: LoginOptions) -> None:
    """Ask the server whether it knows the key, and choose that server from now on."""
    profile = Profile.load()
    url = base_url(options.url or profile.url or _asked_url())
    key = options.api_key or asked_key()
    known = profile.access_to(url) or Access()
    ca_file = options.ca_file.absolute() if options.ca_file is not None else known.ca_file
    with hints(), Ask(url, key, ca_file).open() as server:
        server.tunnels.page(limit=1)  # every live key may ask for it
    changed = profile.choosing(url, Access(api_key=key, ca_file=ca_file))
    changed.save()
    if not options.quiet:
        lines = facts(
            [
                ("server", url),
                ("key", f"…{last4(key)}, checked"),
                ("CA file", None if ca_file is None else homely(ca_file)),
                ("kept in", homely(changed.path)),
            ]
        )
        for line in lines:
            tell(line)


def asked_key() -> Secret:
    """The key that is typed unseen at a terminal, or the first line of what comes in by a pipe.

    Raises:
        InputError: there is none.
        KeyboardInterrupt: Ctrl-C or Ctrl-D in place of a key.
    """
    if sys.stdin.isatty():
        try:
            text = getpass.getpass("API key: ", stream=sys.stderr)
        except EOFError:
            raise KeyboardInterrupt from None
    else:
        text = sys.stdin.readline()
    if not (text := text.strip()):
        raise InputError("no API key was given: type it, or give it on stdin or with --api-key")
    return Secret(text)


def _asked_url() -> str:
    if not sys.stdin.isatty():
        raise InputError("no server is known: give its URL, as in wellhead login https://localhost:8443")
    print("server (https://HOST[:PORT]): ", end="", file=sys.stderr, flush=True)
    if not (text := sys.stdin.readline()):
        raise KeyboardInterrupt
    return text.strip()
