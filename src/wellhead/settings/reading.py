"""Where settings come from: files and the environment, and what is wrong there in words."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from wellhead.errors import SettingsError
from wellhead.model.text import shown

PREFIX = "WELLHEAD_"

CLIENT_VARIABLES: Mapping[str, str] = {
    "WELLHEAD_HOME": "Directory of profile, tunnels' state and `server/`; default `~/.wellhead`.",
    "WELLHEAD_CONFIG": "The server's settings file; the flag `--config` goes before it.",
    "WELLHEAD_HOST_CONFIG": "The settings file of `wellhead host run`; the flag `--config` goes before it.",
    "WELLHEAD_URL": "Base URL of the control plane, for agents and the CLI.",
    "WELLHEAD_API_KEY": "API key, for agents and the CLI.",
    "WELLHEAD_CA_FILE": "PEM file of certificate authorities to trust, for agents and the CLI.",
    "WELLHEAD_HOST_TOKEN": "The token of `wellhead host join`.",
    "WELLHEAD_TUNNEL_SECRET": "A tunnel's connect secret, for agents.",
    "WELLHEAD_DEBUG": "`1`: a command that fails shows where, with a traceback.",
}
"""Variables that the server's settings do not read, but that may stand in its environment."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        SettingsError: missing, unreadable, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def unknown_variables(fields: Collection[str]) -> list[str]:
    """Of the environment: a sentence for each that looks like a setting and is none."""
    known = {*CLIENT_VARIABLES, *(PREFIX + key.upper() for key in fields)}
    # Names only: a mistyped WELLHEAD_API_KEY holds a secret.
    return [
        f"unknown variable {shown(name)} in the environment{_did_you_mean(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known
    ]


def unknown_keys(fields: Collection[str], sources: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Of the sources, each with what it is called: a sentence for each key that is no setting."""
    return [
        f"unknown key {shown(key)} in {origin}{_did_you_mean(key, fields)}"
        for origin, keys in sources
        for key in keys
        if key not in fields
    ]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def problem(detail: ErrorDetails, sources: list[tuple[str, dict[str, Any]]]) -> str:
    """One of pydantic's complaints as a sentence, with where the value came from."""
    key = str(detail["loc"][0])
    origin, given = next(
        ((origin, keys[key]) for origin, keys in sources if key in keys), ("the defaults", None)
    )
    if origin == "the environment":
        origin = PREFIX + key.upper()
    reason = detail["msg"]
    if (cause := detail.get("ctx", {}).get("error")) is not None:
        reason = str(cause)
    elif reason.startswith("Input should "):
        reason = f"{shown(str(given))} must " + reason.removeprefix("Input should ")
    return f"{key} (from {origin}): {reason[:1].lower() + reason[1:]}"
