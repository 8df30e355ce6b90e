"""The profile: which control plane this user's agents and commands speak with, and the names they were given.

``$WELLHEAD_HOME/profile.toml``::

    url = "https://localhost:8443"
    api_key_file = "/home/user/.wellhead/server/admin-key"
    ca_file = "/home/user/.wellhead/server/ca.pem"

    [names]
    "http://127.0.0.1:8000" = "calm-otter-7k2p"
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wellhead import private
from wellhead.errors import SettingsError
from wellhead.model.access import Secret
from wellhead.model.names import base_url
from wellhead.model.text import shown
from wellhead.settings import home as default_home

_KEYS = ("url", "api_key", "api_key_file", "ca_file")


@dataclass(frozen=True, slots=True)
class Connection:
    """What a REST client needs to know."""

    url: str  # base URL without a trailing slash
    api_key: Secret
    ca_file: Path | None = None  # None: the system's authorities


@dataclass(frozen=True, slots=True)
class Profile:
    home: Path
    url: str | None = None
    api_key: Secret | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # upstream -> tunnel name

    @property
    def path(self) -> Path:
        return self.home / "profile.toml"

    @classmethod
    def load(cls, home: Path | None = None) -> Profile:
        """The profile in ``home`` (default ``$WELLHEAD_HOME``); an empty one where there is none.

        Raises:
            LocalStateError: the file is unsafe or unreadable.
            SettingsError: not TOML, an unknown key, or a value that is no string.
        """
        home = home if home is not None else default_home()
        path = home / "profile.toml"
        if (text := private.read(path)) is None:
            return cls(home)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path} is not TOML: {error}") from error
        names = table.pop("names", {})
        if unknown := next((key for key in table if key not in _KEYS), None):
            raise SettingsError(
                f"unknown key {shown(unknown)} in {path}, known are {', '.join(_KEYS)}, names"
            )
        if not isinstance(names, dict):
            raise SettingsError(f"names in {path} must be a table")
        if wrong := next((k for k, v in [*table.items(), *names.items()] if not isinstance(v, str)), None):
            raise SettingsError(f"{shown(wrong)} in {path} must be a string")
        return cls(
            home,
            url=table.get("url"),
            api_key=Secret(table["api_key"]) if "api_key" in table else None,
            api_key_file=Path(table["api_key_file"]) if "api_key_file" in table else None,
            ca_file=Path(table["ca_file"]) if "ca_file" in table else None,
            names=names,
        )

    def save(self) -> None:
        """Write it, 0600, whole or not at all.

        Raises:
            LocalStateError: the directory is unsafe, or the file cannot be written.
        """
        private.make_directory(self.home)
        keys = {
            "url": self.url,
            "api_key": self.api_key.reveal() if self.api_key is not None else None,
            "api_key_file": self.api_key_file,
            "ca_file": self.ca_file,
        }
        lines = [f"{key} = {_quoted(str(given))}" for key, given in keys.items() if given is not None]
        if self.names:
            lines += ["", "[names]"]
            lines += [f"{_quoted(upstream)} = {_quoted(name)}" for upstream, name in self.names.items()]
        private.write(self.path, "\n".join([*lines, ""]))

    def with_name(self, upstream: str, name: str) -> Profile:
        """A profile that also remembers this tunnel name for this upstream; not saved yet."""
        return replace(self, names={**self.names, upstream: name})

    def resolve(
        self, url: str | None = None, api_key: Secret | None = None, ca_file: Path | None = None
    ) -> Connection:
        """Whom to speak with: arguments (flags) go before ``WELLHEAD_*`` variables, these before the profile.

        The profile's key and authorities belong to the profile's URL and are offered to no other server.

        Raises:
            SettingsError: no URL or no key is known.
            InputError: the URL is not one of a control plane.
        """
        url = url or os.environ.get("WELLHEAD_URL")
        if not (chosen := url or self.url):
            raise SettingsError(
                "no server is known: start one here with `wellhead up`, or give --url or WELLHEAD_URL"
            )
        chosen = base_url(chosen)
        ours = self.url is not None and chosen == base_url(self.url)
        if api_key is None and (variable := os.environ.get("WELLHEAD_API_KEY")):
            api_key = Secret(variable)
        if ca_file is None and (variable := os.environ.get("WELLHEAD_CA_FILE")):
            ca_file = Path(variable)
        if ours:
            api_key = api_key if api_key is not None else self._key()
            ca_file = ca_file if ca_file is not None else self.ca_file
        if api_key is None:
            raise SettingsError(f"no API key is known for {chosen}: give --api-key or WELLHEAD_API_KEY")
        return Connection(chosen, api_key, ca_file)

    def _key(self) -> Secret | None:
        if self.api_key is not None or self.api_key_file is None:
            return self.api_key
        text = private.read(self.api_key_file)
        if text is None:
            raise SettingsError(f"{self.path} names the key file {self.api_key_file}, which does not exist")
        return Secret(text.strip())


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
