"""``docs/reference/cli.md``, printed from the commands themselves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from wellhead.cli import exit
from wellhead.cli.main import app
from wellhead.cli.samples import printed

WIDTH = 100  # characters of a help text's line


def reference_page() -> str:
    root = get_command(app)
    context = root.make_context("wellhead", [], resilient_parsing=True, terminal_width=WIDTH)
    outputs = printed()
    verbs = {line: _verb(line, root) for line in outputs}
    parts = ["# Commands", "Printed from `wellhead.cli` by `make docs`."]
    for path, text in _helps("wellhead", root, context):
        parts += [f"## {path}", f"```\n{text.rstrip()}\n```"]
        if lines := [line for line, verb in verbs.items() if verb == path]:
            parts += ["Prints", "```\n" + "\n".join(f"$ {line}\n{outputs[line]}" for line in lines) + "```"]
    parts += [
        "## Exit codes",
        "An error is one line on stderr, `error: …`, with a `hint: …` line where something may help.",
        "\n".join(_table(exit.__doc__ or "")),
        "`wellhead sandbox exec` and `wellhead sandbox shell` end as their program did: with its exit code,"
        " or with 128 and the number of the signal that ended it.",
    ]
    return "\n\n".join(parts) + "\n"


def _helps(path: str, command: Any, context: Any) -> Iterator[tuple[str, str]]:
    """A command's path and help text, then those of the commands in it."""
    yield path, command.get_help(context)
    for name, inner in getattr(command, "commands", {}).items():
        inner_context = inner.make_context(name, [], parent=context, resilient_parsing=True)
        yield from _helps(f"{path} {name}", inner, inner_context)


def _verb(line: str, root: Any) -> str:
    """``wellhead tunnels get`` of a command line."""
    words, depth = shlex.split(line), 1
    command = root
    while words[depth : depth + 1] and words[depth] in getattr(command, "commands", {}):
        command = command.commands[words[depth]]
        depth += 1
    return " ".join(words[:depth])


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
