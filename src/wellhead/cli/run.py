"""``wellhead run``: an application in this process on a public hostname, and a line per request."""

from __future__ import annotations

import os
from dataclasses import dataclass

from wellhead import logs
from wellhead.cli.attending import LinkOptions, attend
from wellhead.cli.loading import load
from wellhead.errors import HandlerError, InputError
from wellhead.inprocess.detect import INTERFACES, answerer_of

DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``wellhead run`` is told of the application, not yet checked."""

    app: str
    interface: str = "auto"
    factory: bool = False
    ws_handler: str | None = None
    max_body_bytes: int | None = None


def run_app(
    options: RunOptions, link: LinkOptions, *, drain_seconds: float = DRAIN_SECONDS, parent: int | None = None
) -> None:
    """Answer until a signal, or until the pipe ``parent`` ends.

    Raises:
        HandlerError: the application cannot be loaded, or does not start.
    """
    if options.interface not in INTERFACES:
        raise InputError(f"interface must be one of {', '.join(INTERFACES)}, not {options.interface!r}")
    logs.configure("error", others=False)  # the application's logging is its own
    app = load(options.app, factory=options.factory)
    ws_handler = None if options.ws_handler is None else load(options.ws_handler)
    try:
        answerer_of(app, options.interface, ws_handler)
    except InputError as error:
        failed = HandlerError(str(error))
        for note in getattr(error, "__notes__", ()):
            failed.add_note(note)
        raise failed from None
    attend(
        app,
        options.app,
        link,
        parent=parent,
        interface=options.interface,
        ws_handler=ws_handler,
        max_body_bytes=options.max_body_bytes,
        drain_seconds=drain_seconds,
        label=f"{options.app} in {os.getcwd()}",
    )
