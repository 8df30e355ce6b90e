"""``wellhead template``: what the sandboxes of this machine begin as."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wellhead.cli.consent import ask_first
from wellhead.cli.host import Runtime
from wellhead.cli.options import Json, Yes
from wellhead.cli.output import tell
from wellhead.cli.progress import progress
from wellhead.cli.table import columns, when
from wellhead.model.text import escape

if TYPE_CHECKING:
    from wellhead.host.templates import Templates

app = typer.Typer(
    help="Build what sandboxes begin as, on their host.", no_args_is_help=True, rich_markup_mode=None
)

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Of the host.  [default: ~/.wellhead/host, or that of `wellhead up --with-host`]",
    ),
]
TemplateName = Annotated[str, typer.Argument(metavar="NAME", help="The template.", show_default=False)]


class Base(enum.Enum):
    MACHINE = "machine"
    DEBOOTSTRAP = "debootstrap"


def _recipes() -> list[str]:
    from wellhead.host.templates import BUILT_IN

    return list(BUILT_IN)


@app.command("build")
def build(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="minimal|minimal-ubuntu|python|jupyter",
            help="What is built.",
            show_default=False,
            autocompletion=_recipes,
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Its name.  [default: the recipe's]")] = "",
    pip: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="Another package of Python's. May be repeated."),
    ] = None,
    base: Annotated[
        Base, typer.Option(help="What is under it: this machine's own programs, or fresh ones.")
    ] = Base.MACHINE,
    suite: Annotated[str, typer.Option(metavar="S", help="Of debootstrap, as bookworm.")] = "",
    mirror: Annotated[str, typer.Option(metavar="URL", help="Of debootstrap.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Although it is there, and as it would be.")] = False,
    runtime: Runtime = None,
    state: State = None,
) -> None:
    """Build a template, unless it is there as the recipe would make it now."""
    from wellhead.host.template_build import Recipe
    from wellhead.host.template_build import build as build_template

    under: Literal["machine", "debootstrap"] = "machine" if base is Base.MACHINE else "debootstrap"
    wanted = Recipe(recipe, tuple(pip or ()), under, suite, mirror)
    build_template(_templates(state, runtime), wanted, name, again=again, say=tell)


@app.command("list")
def list_templates(state: State = None, runtime: Runtime = None, as_json: Json = False) -> None:
    """List the templates of this machine."""
    listed = _templates(state, runtime).listed()
    if as_json:
        records = [
            {"name": each.name, "kind": each.kind, "built_at": each.built_at, "size_bytes": each.size_bytes}
            for each in listed
        ]
        tell(json.dumps(records, indent=2))
        return
    rows = [
        (
            each.name,
            each.kind,
            f"{each.size_bytes / 1e6:.1f} MB",
            when(datetime.fromtimestamp(each.built_at, UTC)) or "",
        )
        for each in listed
    ]
    lines = columns(("NAME", "KIND", "SIZE", "BUILT"), rows) if rows else ["no templates"]
    for line in lines:
        tell(line)


@app.command("rm")
def remove_template(
    name: TemplateName, state: State = None, runtime: Runtime = None, yes: Yes = False
) -> None:
    """Forget a template of this machine. Sandboxes that began as it go on."""
    templates = _templates(state, runtime)
    ask_first(f"Forget template {escape(name)}?", yes=yes)
    with progress(f"removing {escape(name)}"):
        templates.remove(name, by_operator=True)
    tell(f"{escape(name)} is gone")


def _templates(state: Path | None, runtime: str | None) -> Templates:
    from wellhead.host.main import default_state
    from wellhead.host.runtime.choice import runtime_name
    from wellhead.host.templates import Templates
    from wellhead.serve_host_process import LOCAL_HOST
    from wellhead.settings import HostProgramSettings, home

    settings = HostProgramSettings.load(None, {"host_runtime": runtime})
    if state is None:
        beside = home() / "server" / LOCAL_HOST
        state = beside if beside.exists() and not default_state().exists() else default_state()
    return Templates(state, runtime_name(settings))
