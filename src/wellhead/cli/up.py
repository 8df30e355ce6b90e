"""``wellhead up``: a server with embedded defaults.

stdout carries what a person must keep (the admin key, once) and then exactly one line that begins
with ``ready``, for scripts that wait for it. Logs go to stderr.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from wellhead import logs
from wellhead.cli.output import tell
from wellhead.cli.progress import progress
from wellhead.errors import WellheadError
from wellhead.model.names import base_url
from wellhead.net import certificate_files, loop
from wellhead.profile import Access, Profile
from wellhead.serve import Ready, serve
from wellhead.settings import ServerSettings

ADMIN_KEY_FILE = "admin-key"
PORTS_ARE_PUBLIC = (
    "sandbox ports are public: whoever knows a port's name reaches it; sandbox_visibility changes it"
)


def run_up(flags: Mapping[str, object], *, config: Path | None, check: bool) -> None:
    """Serve until a signal; with ``check`` only say whether the settings are good."""
    settings = ServerSettings.load(config, flags)
    if check:
        certificate_files.check(settings.tls_pairs)
        tell(
            f"settings are valid: data_dir={settings.data_dir} domain={settings.domain}"
            f" zone={settings.agent_zone} https={settings.https} http={settings.http or 'off'}"
        )
        return
    logs.configure(settings.log_level)
    loop.run(_up(settings))


async def _up(settings: ServerSettings) -> None:
    running = asyncio.get_running_loop()
    stop, reloads = loop.stop_event(running), list[Callable[[], None]]()

    def reload() -> None:
        for each in reloads:
            each()

    loop.on_hangup(running, reload, stop)
    try:
        with ExitStack() as starting:
            starting.enter_context(progress("starting"))

            def ready(facts: Ready) -> None:
                starting.close()
                reloads.append(facts.reload)
                announce(facts)

            await serve(settings, ready=ready, stop=stop)
    except WellheadError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            error.add_note("another program has this port, perhaps a server; port 0 takes any free one")
        raise


def announce(ready: Ready) -> None:
    """Tell what a person must keep, and that visitors and agents may come."""
    if ready.key is not None:
        tell(f"admin key    {ready.key.reveal()}")
        tell(f"             shown once; kept in {ready.data_dir / ADMIN_KEY_FILE}")
        if ready.ca_file is not None:
            tell(f"local CA     {ready.ca_file}")
    if ready.opens_ports:
        tell(PORTS_ARE_PUBLIC)
    _leave_profile(ready)
    tell(ready_line(ready))


def ready_line(ready: Ready) -> str:
    """The one line that scripts wait for: an address of each kind, the first where there are two."""
    https, http = (urls[0] if urls else "off" for urls in (ready.https, ready.http))
    return f"ready https={https} http={http} api={ready.api}"


def _leave_profile(ready: Ready) -> None:
    """With it `wellhead http 8000` needs no option here. A server that the user chose stays chosen."""
    url = ready.api.removesuffix("/").removesuffix("/api/v1")
    access = Access(api_key_file=ready.data_dir / ADMIN_KEY_FILE, ca_file=ready.ca_file)
    try:
        profile = Profile.load()
        if profile.url is None or _written_by_up(profile):
            ours = replace(
                profile, url=url, api_key=None, api_key_file=access.api_key_file, ca_file=access.ca_file
            )
        elif base_url(profile.url) == base_url(url):
            return  # chosen already, with a key of the user's own
        else:
            # One entry a data directory: its port may be another at every start.
            others = {u: a for u, a in profile.servers.items() if a.api_key_file != access.api_key_file}
            ours = replace(profile, servers={**others, url: access})
            tell(f"profile      {profile.url} stays chosen; wellhead profile use {url} chooses this server")
        if ours != profile:
            ours.save()
    except WellheadError as error:
        # The server works without it: that must not end it.
        print(f"warning: no profile for `wellhead http`: {error}", file=sys.stderr, flush=True)


def _written_by_up(profile: Profile) -> bool:
    return profile.api_key is None and (
        profile.api_key_file is not None and profile.api_key_file.name == ADMIN_KEY_FILE
    )
