"""The name of the path form: what a target there leads to."""

from __future__ import annotations

from wellhead.edge.port_door import Ports
from wellhead.errors import InputError
from wellhead.visitors import port_pages
from wellhead.visitors.exchange import Door
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.path_form import read_path


def way(ports: Ports, target: bytes, secure: bool, peer: str) -> tuple[str, Door | Page, Memo | None]:
    """The port's label for the access line, and the door of a request now, or the page in its stead."""
    written = read_path(target)
    if written is None:
        return "", port_pages.NO_PORT_NAMED, None
    page = port_pages.BAD_PORT
    try:
        written.port_number()
        page = port_pages.BAD_SANDBOX
        name = written.name()
    except InputError:
        return "", page, None
    if not written.rest.startswith(b"/"):
        # Else the relative links of the page would lead out of the port.
        place = f"/{name.sandbox}/{name.port}/{written.rest.decode('ascii', 'ignore')}"
        return name.label, port_pages.SLASH_MISSING._replace(location=place), None
    found = ports.way(name, secure, peer, written.rest)
    return (name.label, found, None) if isinstance(found, Page) else (name.label, *found)
