"""``wellhead serve``: the files of a directory on a public hostname."""

from __future__ import annotations

from pathlib import Path

from wellhead import logs
from wellhead.cli.attending import LinkOptions, attend
from wellhead.cli.files import files_app
from wellhead.errors import InputError


def run_serve(directory: Path, link: LinkOptions, *, hidden: bool = False) -> None:
    """Serve until a signal.

    Raises:
        InputError: there is no such directory.
    """
    place = directory.resolve()
    if not place.is_dir():
        raise InputError(f"{directory} is not a directory")
    logs.configure("error")
    attend(files_app(place, hidden=hidden), str(place), link, interface="asgi", label=str(place))
