"""Options and arguments that several commands of ``wellhead sandbox`` have."""

from __future__ import annotations

from typing import Annotated

import typer

from wellhead.cli.completion import sandbox_ids
from wellhead.model.visibility import Visibility

SandboxName = Annotated[
    str,
    typer.Argument(metavar="ID", help="The sandbox.", show_default=False, autocompletion=sandbox_ids),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env", "-e", metavar="NAME[=VALUE]", help="A variable; without a value, yours. May be repeated."
    ),
]
Cwd = Annotated[str | None, typer.Option(metavar="DIR", help="Where it runs.  [default: the user's home]")]
User = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whom it runs as.  [default: the template's user]")
]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="[--] COMMAND [ARG]…", help="What runs, and its arguments.", show_default=False),
]
Port = Annotated[str, typer.Argument(metavar="PORT", help="The port, 1 to 65535.", show_default=False)]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A label of yours, for programs. May be repeated."),
]
Seen = Annotated[
    Visibility | None,
    typer.Option(
        "--visibility",
        metavar="private|team|public",
        help="Who may see its ports: whoever has an admin key or a link, whoever has any key, or everybody.",
        show_default=False,
    ),
]
AutoResume = Annotated[
    bool | None,
    typer.Option(
        "--auto-resume/--no-auto-resume",
        help="Whether a request for a port resumes it where it is paused.",
        show_default=False,
    ),
]
