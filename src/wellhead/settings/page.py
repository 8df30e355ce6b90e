"""The reference page of the settings, printed from the fields."""

from __future__ import annotations

from wellhead.settings import CLIENT_VARIABLES, ServerSettings


def reference_page() -> str:
    """``docs/reference/settings.md``, printed from the fields."""
    rows = [
        f"| `{key}` | {shown_default(key)} | {field.description} |"
        for key, field in ServerSettings.model_fields.items()
    ]
    variables = [f"| `{name}` | {text} |" for name, text in CLIENT_VARIABLES.items()]
    return "\n".join(
        [
            "# Settings",
            "",
            "Printed from `wellhead.settings` by `make docs`.",
            "",
            "A key `head_seconds` is written `head_seconds = 10` in the TOML file that `wellhead up --config"
            " FILE` reads, and `WELLHEAD_HEAD_SECONDS=10` in the environment.",
            "The command line goes before the environment, the environment before the file, the file before"
            " the default. An unknown key or `WELLHEAD_*` variable is refused.",
            "`wellhead up --check` validates and exits.",
            "",
            "| key | default | what it says |",
            "|---|---|---|",
            *rows,
            "",
            "## Other variables",
            "",
            "| variable | what it says |",
            "|---|---|",
            *variables,
            "",
        ]
    )


def shown_default(key: str) -> str:
    """A setting's default, as the reference pages print it."""
    field = ServerSettings.model_fields[key]
    if field.default_factory is not None:
        return "`$WELLHEAD_HOME/server`"
    match field.default:
        case None | ():
            return "-"
        case bool():
            return "`true`" if field.default else "`false`"
        case float():
            return f"`{field.default:g}`"
        case other:
            return f"`{other}`"
