"""Commands that ask a server: their common options, the client they are given, and how records are told."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from wellhead.cli.hints import hint_on, hints
from wellhead.cli.options import ApiKey, CaFile, Json, Quiet, Url
from wellhead.cli.output import tell
from wellhead.cli.progress import progress
from wellhead.errors import InputError, NotFound
from wellhead.model.access import Secret
from wellhead.model.text import shown

if TYPE_CHECKING:
    from wellhead.client import Client
    from wellhead.client.calls import Call
    from wellhead.client.sandboxes import Sandbox
    from wellhead.model.records import Identity, Tunnel

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", None, int)  # an exit code

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ask:
    """The common options of one command line."""

    url: str | None = None
    api_key: Secret | None = None
    ca_file: Path | None = None
    as_json: bool = False
    quiet: bool = False

    def open(self) -> Client:
        """The server that is meant; a call that takes longer than a second shows that it does."""
        return OPENER.get()(self)

    def tell(self, record: object, lines: Sequence[str], few: Sequence[str] = ()) -> None:
        """Print records: as JSON, or ``lines`` for a person, or with ``--quiet`` the ``few`` for a script."""
        if self.as_json:
            tell(as_json(record))
            return
        for line in few if self.quiet else lines:
            tell(line)


def open_server(ask: Ask) -> Client:
    """By options, then ``WELLHEAD_*`` variables, then the profile."""
    from wellhead.client import Client
    from wellhead.profile import Profile

    class Shown(Client):
        def send(self, call: Call[T], /) -> T:
            with progress(f"asking {self.url}"):
                return super().send(call)

    server = Profile.load().resolve(ask.url, ask.api_key, ask.ca_file)
    return Shown(server.url, server.api_key, ca_file=server.ca_file)


OPENER: ContextVar[Callable[[Ask], Client]] = ContextVar("opener", default=open_server)
"""How ``Ask.open`` comes to a server: the printed reference page puts one of its own here."""


def asks(command: Callable[Concatenate[Ask, P], R]) -> Callable[..., R]:
    """Makes a function of an ``Ask`` and options of its own a command that also takes the common options."""
    own: list[inspect.Parameter] = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = {"url": Url, "ca_file": CaFile, "as_json": Json, "quiet": Quiet}
    defaults = Ask()
    added: list[inspect.Parameter] = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=kind
        )
        for name, kind in {"api_key": ApiKey, **common}.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> R:
        key = given.pop("api_key")
        ask = Ask(api_key=Secret(key) if key else None, **{name: given.pop(name) for name in common})
        with hints():
            return command(ask, **given)  # type: ignore[call-arg]  # Typer gives what the signature says

    vars(run)["__signature__"] = inspect.Signature([*own, *added])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    return run


def tunnel_of(server: Client, given: str) -> Tunnel:
    """The tunnel of this id or name.

    Raises:
        NotFound: neither.
    """
    if _UUID.fullmatch(given):  # no name looks so
        return server.tunnels.get(given.lower())
    if (tunnel := server.tunnels.find(given)) is not None:
        return tunnel
    raise NotFound(404, f"no tunnel {shown(given)} at {server.url}")


def identity_of(server: Client, handle: str) -> Identity:
    """The identity of this handle.

    Raises:
        NotFound: there is none.
    """
    try:
        return server.identities.get(handle)
    except NotFound:
        raise NotFound(404, f"no identity {shown(handle)} at {server.url}") from None


def sandbox_of(server: Client, given: str) -> Sandbox:
    """The sandbox of this id, asked about.

    Raises:
        InputError: not an id.
        NotFound: there is none.
    """
    with hint_on(InputError, "`wellhead sandbox list` lists the ids"):
        return server.sandboxes.get(given)


def as_json(record: object, indent: int | None = 2) -> str:
    """A record, or a list of them, as the REST API gives it; in one line without an ``indent``."""
    from pydantic import TypeAdapter

    return json.dumps(TypeAdapter(Any).dump_python(record, mode="json"), indent=indent)
