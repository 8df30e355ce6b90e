"""An application by its name, ``module:attribute``, from the working directory or what is installed."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from wellhead.errors import HandlerError, InputError


def load(name: str, *, factory: bool = False) -> Callable[..., Any]:
    """What ``name`` stands for; with ``factory`` what it makes when it is called without arguments.

    An error of the application's own code is written to stderr, from the first line of that code on.

    Raises:
        InputError: it is no such name.
        HandlerError: there is none, it cannot be called, or its own code failed.
    """
    module_name, path = _split(name)
    directory = os.getcwd()
    if directory not in sys.path[:1]:
        sys.path.insert(0, directory)
    module = _import(module_name, directory)
    app: Any = module
    for part in path:
        try:
            app = getattr(app, part)
        except AttributeError:
            where = getattr(module, "__file__", None) or "built in"
            absent = HandlerError(f"module {module_name} ({where}) has no {'.'.join(path)}")
            if similar := difflib.get_close_matches(part, dir(app), n=1):
                absent.add_note(f"did you mean {similar[0]}?")
            raise absent from None
    if not callable(app):
        raise HandlerError(f"{name} is of type {type(app).__name__}, which cannot be called")
    if factory:
        app = _theirs(f"{name}()", app)
        if not callable(app):
            raise HandlerError(f"{name}() gave {type(app).__name__}, which cannot be called")
    made: Callable[..., Any] = app
    return made


def _split(name: str) -> tuple[str, list[str]]:
    module, colon, attribute = name.partition(":")
    path = attribute.split(".")
    named = all(part.isidentifier() for part in [*module.split("."), *path])
    if colon and named and not module.endswith(".py"):
        return module, path
    error = InputError(f"an application is named MODULE:NAME, as main:app; {name!r} is not such a name")
    if attribute.endswith("()"):
        error.add_note("--factory calls what is named and serves what it gives")
    elif module.endswith(".py"):
        error.add_note(f"modules are named without .py: {_dotted(module)}:{attribute or 'app'}")
    raise error


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removeprefix("./").replace("/", ".")


def _import(name: str, directory: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if _their_part(error) is None and (name == missing or name.startswith(f"{missing}.")):
            raise HandlerError(f"there is no module {missing}, in {directory} or installed") from None
        raise _told(name, error) from error
    except (Exception, SystemExit) as error:
        raise _told(name, error) from error


def _theirs(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise _told(name, error) from error


def _told(name: str, error: BaseException) -> HandlerError:
    """Write their traceback, without the frames of ours that led there."""
    traceback.print_exception(type(error), error, _their_part(error))
    what = "it exits" if isinstance(error, SystemExit) else type(error).__name__
    return HandlerError(f"{name} cannot be loaded: {what} (above)")


def _their_part(error: BaseException) -> TracebackType | None:
    trace = error.__traceback__
    while trace is not None and _leads_there(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _leads_there(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
