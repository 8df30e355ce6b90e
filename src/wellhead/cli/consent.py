"""Asking before something is done that cannot simply be done again."""

from __future__ import annotations

import sys

import typer

from wellhead.errors import InputError


def ask_first(question: str, *, yes: bool) -> None:
    """Go on only where the person at the terminal says yes, or said ``--yes`` before.

    Raises:
        InputError: nobody can be asked.
        typer.Exit: the answer is no; the exit code is 1.
        KeyboardInterrupt: Ctrl-C or Ctrl-D in place of an answer.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} nobody is there to answer: give --yes")
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    if not (answer := sys.stdin.readline()):
        print(file=sys.stderr)
        raise KeyboardInterrupt
    if answer.strip().lower() not in ("y", "yes"):
        print("nothing was changed", file=sys.stderr, flush=True)
        raise typer.Exit(1)
