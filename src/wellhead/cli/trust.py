"""``wellhead trust``: have this machine trust the local CA, or no longer; it says first what it will do."""

from __future__ import annotations

import os
import shlex
import subprocess
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from wellhead.cli.consent import ask_first
from wellhead.cli.output import tell
from wellhead.cli.progress import progress
from wellhead.cli.trust_steps import (
    NEEDS_ROOT,
    Machine,
    Step,
    install_steps,
    read_authority,
    remove_steps,
    search_path,
)
from wellhead.errors import LocalStateError, SettingsError
from wellhead.profile import Profile
from wellhead.settings import home

COMMAND_SECONDS = 120.0
MACHINE: ContextVar[Machine | None] = ContextVar("machine", default=None)
"""In place of this one: the reference page tells of one that is made up."""


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """The command line of ``wellhead trust``."""

    ca_file: Path | None
    remove: bool
    dry_run: bool
    yes: bool


def run_trust(options: TrustOptions, machine: Machine | None = None) -> None:
    """Say what is to be done, ask, and do it.

    Raises:
        SettingsError: there is no CA file, or it is none.
        LocalStateError: a command failed; what was done before it stays done.
    """
    machine = machine or MACHINE.get() or Machine()
    authority = read_authority(options.ca_file or _known_file())
    tell(f"authority    {authority.subject}")
    tell(f"             {authority.file}, SHA-256 {authority.mark}…")
    steps = (remove_steps if options.remove else install_steps)(authority, machine)
    ours = [step for step in steps if not step.by_hand]
    if not options.remove:
        tell(
            "Whoever has the key beside it can be any website to programs that trust it: trust your own only."
        )
    _show("To do:", ours)
    _show("To do by hand:", [step for step in steps if step.by_hand])
    if not steps:
        tell("nothing to do: it is not trusted here")
    if ours and not options.dry_run:
        ask_first(
            f"run {'this command' if len(ours) == 1 else f'these {len(ours)} commands'}?", yes=options.yes
        )
        for step in ours:
            _run(step)
        tell("done: " + ("the CA is trusted no longer" if options.remove else "the CA is trusted"))


def _known_file() -> Path:
    """The CA of the profile's server, or of the server of this home."""
    own = home() / "server" / "ca.pem"
    known = Profile.load().ca_file or own
    if not known.exists():
        raise SettingsError(f"there is no {known}: give --ca-file, or start a server with `wellhead up`")
    return known


def _show(title: str, steps: list[Step]) -> None:
    if not steps:
        return
    tell(title)
    for step in steps:
        tell(f"  {step.what}" + (f" ({step.by_hand})" if step.by_hand else ""))
        if step.command:
            tell(f"      {'sudo ' if step.by_hand == NEEDS_ROOT else ''}{shlex.join(step.command)}")


def _run(step: Step) -> None:
    try:
        with progress(step.what):
            ended = subprocess.run(
                step.command,
                env={**os.environ, "PATH": search_path()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalStateError(f"could not {step.what}: {error}") from error
    if ended.returncode != 0:
        said = " ".join((ended.stderr or ended.stdout).split())[:300]
        raise LocalStateError(f"could not {step.what}: {step.command[0]} said: {said or ended.returncode}")
