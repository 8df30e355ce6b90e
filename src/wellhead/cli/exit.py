"""How a command ends: one clear line on stderr and an exit code.

=====  ==================================================================
code   meaning
=====  ==================================================================
0      done, or ended by Ctrl-C where that is the normal end
1      something else went wrong; or the answer to a question was no
2      the command line: an unknown option, a bad address, a missing value
3      settings or local state: a file, a variable, a directory
4      the server refused: a key, a secret, a removed tunnel
5      the server or the network could not be reached, or says: later
6      the server's certificate is not trusted
7      no such tunnel, key or other record
8      a record is in the way: a name is taken, a tunnel is in another state
124    `sandbox exec`: its time was over, and the command was killed
130    interrupted before there was anything to end cleanly
=====  ==================================================================

A hint is a note on the exception (``add_note``): the place that knows the remedy adds it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import traceback

from typer.exceptions import TyperException

from wellhead.errors import (
    ApiError,
    BadRequest,
    CommandTimeout,
    Conflict,
    Forbidden,
    HostConflict,
    HostForbidden,
    HostInvalid,
    HostNotFound,
    HostState,
    InputError,
    Invalid,
    LinkError,
    LocalStateError,
    NotFound,
    RateLimited,
    RefusedError,
    SettingsError,
    TrustError,
    Unauthorized,
    Unavailable,
    WellheadError,
)

DEBUG_VARIABLE = "WELLHEAD_DEBUG"


class ExitCode(enum.IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 3
    REFUSED = 4
    UNREACHABLE = 5
    UNTRUSTED = 6
    NOT_FOUND = 7
    CONFLICT = 8
    TIMED_OUT = 124
    INTERRUPTED = 130


# The first class that fits decides, so a branch stands after its exceptions.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (TrustError, ExitCode.UNTRUSTED),
    (LinkError, ExitCode.UNREACHABLE),
    (Unavailable, ExitCode.UNREACHABLE),
    (RateLimited, ExitCode.UNREACHABLE),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (Invalid, ExitCode.USAGE),
    (BadRequest, ExitCode.USAGE),
    (RefusedError, ExitCode.REFUSED),
    (Unauthorized, ExitCode.REFUSED),
    (Forbidden, ExitCode.REFUSED),
    (SettingsError, ExitCode.SETTINGS),
    (LocalStateError, ExitCode.SETTINGS),
    (InputError, ExitCode.USAGE),
    (CommandTimeout, ExitCode.TIMED_OUT),
    (HostInvalid, ExitCode.USAGE),
    (HostForbidden, ExitCode.REFUSED),
    (HostNotFound, ExitCode.NOT_FOUND),
    (HostConflict, ExitCode.CONFLICT),
    (HostState, ExitCode.CONFLICT),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code(error: BaseException) -> int:
    """The number that a shell sees for ``error``."""
    if isinstance(error, TyperException):
        return error.exit_code
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def report(error: BaseException) -> None:
    """Write ``error`` to stderr: a line per problem, which is nearly always one, and a line per hint."""
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exception(error)
    problems, hints = describe(error)
    lines = [f"error: {problem}" for problem in problems] + [f"hint: {hint}" for hint in hints]
    with contextlib.suppress(OSError, ValueError):  # nobody may be reading
        print("\n".join(lines), file=sys.stderr, flush=True)


def describe(error: BaseException) -> tuple[list[str], list[str]]:
    """The sentences for a person, and what may help."""
    hints = [_printable(note) for note in getattr(error, "__notes__", ())]
    if isinstance(error, TyperException):
        message = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
        return [_printable(message[:1].lower() + message[1:])], hints
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"], hints
    if isinstance(error, ApiError):
        return [_printable(error.detail) or str(error)], hints
    if isinstance(error, WellheadError):
        # Settings may be wrong in several places: they come as one line each.
        return [_printable(line) for line in str(error).splitlines()] or [error.code], hints
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        text = error.strerror or str(error) or type(error).__name__
        return [_printable(f"{text.lower()}{where}")], hints
    hints.append(f"this is a fault of wellhead; {DEBUG_VARIABLE}=1 shows where it happened")
    return [_printable(f"{type(error).__name__}: {error}")], hints


def _printable(text: str) -> str:
    """What a terminal would obey is shown as an escape; backslashes stay, most messages did that already."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )
