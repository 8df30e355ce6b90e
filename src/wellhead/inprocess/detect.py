"""Which interface an application has, by how it may be called.

Source: the ASGI specification 3.0, "Applications"; PEP 3333.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, Literal, get_args

from wellhead.errors import InputError
from wellhead.inprocess.asgi import Asgi
from wellhead.inprocess.conversation import Conversations, WithWebSockets
from wellhead.inprocess.handler import Handler, is_awaited
from wellhead.inprocess.upstream import Answerer
from wellhead.inprocess.wsgi import Wsgi

Interface = Literal["auto", "asgi", "wsgi", "handler"]
INTERFACES: tuple[str, ...] = get_args(Interface)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)


def answerer_of(
    app: object,
    interface: str = "auto",
    ws_handler: Callable[..., Any] | None = None,
    *,
    tunnel: Callable[[], str] = str,
) -> Answerer:
    """What answers with ``app``; WebSockets go to ``ws_handler`` where there is one. ``tunnel``: its name.

    Raises:
        InputError: it cannot be called, or its interface cannot be told.
    """
    if interface not in INTERFACES:
        raise InputError(f"interface must be one of {', '.join(INTERFACES)}, not {interface!r}")
    if not callable(app):
        raise InputError(f"{type(app).__name__} is no address and cannot be called: nothing answers with it")
    if interface == "auto":
        interface = detect(app)
    answerer: Answerer
    if interface == "asgi":
        answerer = Asgi(app)
    elif interface == "wsgi":
        answerer = Wsgi(app)
    else:
        answerer = Handler(app, tunnel=tunnel)
    if ws_handler is None:
        return answerer
    return WithWebSockets(answerer, Conversations(ws_handler, tunnel=tunnel))


def detect(app: Callable[..., Any]) -> str:
    """``asgi``, ``wsgi`` or ``handler``, by the number of arguments and whether it is awaited.

    Three are ASGI's (awaited; a class of two steps is not: ASGI 2 is not served), two are WSGI's unless it is
    a coroutine function, whose names are not those of PEP 3333, or is told otherwise; fewer are a handler's,
    which can be given one at least.

    Raises:
        InputError: it takes more, or none: what makes an application, most likely.
    """
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        raise InputError(f"the interface of {label_of(app)} cannot be told: say interface=") from None
    plain = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in _POSITIONAL[:2] and parameter.default is parameter.empty
    ]
    if inspect.isclass(app) and len(plain) < 2:  # an ASGI 2 application, or an instance was meant
        raise InputError(f"{label_of(app)} is a class: give an instance of it, or say interface=")
    if not any(parameter.kind in _POSITIONAL for parameter in signature.parameters.values()):
        none = InputError(f"{label_of(app)} takes no argument: neither an application nor a handler")
        none.add_note("if it makes one: connect(make()), or `wellhead run --factory`")
        raise none
    names = [parameter.name for parameter in plain]
    if len(plain) == 3:
        return "asgi"
    if len(plain) == 2:
        if is_awaited(app):
            return "handler"
        return "wsgi" if names[1] in ("start_response", "start_resp") or names[0] == "environ" else "handler"
    if len(plain) <= 1:
        return "handler"
    raise InputError(f"{label_of(app)} takes {len(plain)} arguments: neither an application nor a handler")


def label_of(app: object) -> str:
    """``module:name`` where it has them, else its type's."""
    named = app if hasattr(app, "__qualname__") else type(app)
    return f"{named.__module__}:{named.__qualname__}"
