"""``docs/reference/cli.md``, printed from the commands themselves."""

from __future__ import annotations

import sys

from typer.main import get_command

from wellhead.cli import exit
from wellhead.cli.main import app

WIDTH = 100  # characters of a help text's line


def reference_page() -> str:
    root = get_command(app)
    context = root.make_context("wellhead", [], resilient_parsing=True, terminal_width=WIDTH)
    texts = {"wellhead": root.get_help(context)}
    for name, command in getattr(root, "commands", {}).items():
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        texts[f"wellhead {name}"] = command.get_help(inner)
    parts = ["# Commands", "Printed from `wellhead.cli` by `make docs`."]
    for path, text in texts.items():
        parts += [f"## {path}", f"```\n{text.rstrip()}\n```"]
    parts += [
        "## Exit codes",
        "An error is one line on stderr, `error: …`, with a `hint: …` line where something may help.",
        "\n".join(_table(exit.__doc__ or "")),
    ]
    return "\n\n".join(parts) + "\n"


def _table(text: str) -> list[str]:
    """The table in a docstring, between its three rules, as Markdown."""
    lines = text.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("=====")]
    rows = [line.split(None, 1) for line in lines[rules[0] + 1 : rules[2]] if not line.startswith("=====")]
    return [
        "| " + " | ".join(rows[0]) + " |",
        "|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows[1:]),
    ]


if __name__ == "__main__":
    sys.stdout.write(reference_page())
