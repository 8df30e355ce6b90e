"""The profile: which servers this user's agents and commands speak with, and the names they were given.

``$WELLHEAD_HOME/profile.toml``::

    url = "https://localhost:8443"
    api_key_file = "/home/user/.wellhead/server/admin-key"
    ca_file = "/home/user/.wellhead/server/ca.pem"

    [servers."https://tunnels.example.com"]
    api_key = "wh_…"

    [names]
    "http://127.0.0.1:8000" = "calm-otter-7k2p"

The server at the top is the chosen one; ``servers`` holds the others that are known.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wellhead import private
from wellhead.errors import InputError, SettingsError
from wellhead.model.access import Secret
from wellhead.model.names import base_url
from wellhead.model.text import shown
from wellhead.settings import home as default_home

_ACCESS = ("api_key", "api_key_file", "ca_file")
_KEYS = ("url", *_ACCESS)


@dataclass(frozen=True, slots=True)
class Connection:
    """What a REST client needs to know."""

    url: str  # base URL without a trailing slash
    api_key: Secret
    ca_file: Path | None = None  # None: the system's authorities


@dataclass(frozen=True, slots=True)
class Access:
    """How one server is reached: the key or the file that holds it, and the authorities to trust."""

    api_key: Secret | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None

    def key(self) -> Secret | None:
        """The key itself.

        Raises:
            SettingsError: there is no file of that name.
            LocalStateError: the file is unsafe or unreadable.
        """
        if self.api_key is not None or self.api_key_file is None:
            return self.api_key
        text = private.read(self.api_key_file)
        if text is None:
            raise SettingsError(f"the profile names the key file {self.api_key_file}, which does not exist")
        return Secret(text.strip())


@dataclass(frozen=True, slots=True)
class Profile:
    home: Path
    url: str | None = None
    api_key: Secret | None = None
    api_key_file: Path | None = None
    ca_file: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # upstream -> tunnel name
    servers: Mapping[str, Access] = field(default_factory=dict)  # base URL -> a server that is not chosen

    @property
    def path(self) -> Path:
        return self.home / "profile.toml"

    @property
    def access(self) -> Access:
        """How the chosen server is reached."""
        return Access(self.api_key, self.api_key_file, self.ca_file)

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
        names, servers = table.pop("names", {}), table.pop("servers", {})
        _check_strings(path, table, _KEYS, "names, servers")
        for what, inner in (("names", names), ("servers", servers)):
            if not isinstance(inner, dict):
                raise SettingsError(f"{what} in {path} must be a table")
        _check_strings(path, names, None)
        for url, keys in servers.items():
            if not isinstance(keys, dict):
                raise SettingsError(f"{shown(url)} in {path} must be a table")
            _check_strings(path, keys, _ACCESS)
            try:
                base_url(url)
            except InputError as error:
                raise SettingsError(f"a key of servers in {path}: {error}") from error
        chosen = _access(table)
        return cls(
            home,
            table.get("url"),
            chosen.api_key,
            chosen.api_key_file,
            chosen.ca_file,
            names,
            {url: _access(keys) for url, keys in servers.items()},
        )

    def save(self) -> None:
        """Write it, 0600, whole or not at all.

        Raises:
            LocalStateError: the directory is unsafe, or the file cannot be written.
        """
        private.make_directory(self.home)
        lines = [] if self.url is None else [f"url = {_quoted(self.url)}"]
        lines += _access_lines(self.access)
        for url, access in self.servers.items():
            lines += ["", f"[servers.{_quoted(url)}]", *_access_lines(access)]
        if self.names:
            lines += ["", "[names]"]
            lines += [f"{_quoted(upstream)} = {_quoted(name)}" for upstream, name in self.names.items()]
        private.write(self.path, "\n".join([*lines, ""]))

    def with_name(self, upstream: str, name: str) -> Profile:
        """A profile that also remembers this tunnel name for this upstream; not saved yet."""
        return replace(self, names={**self.names, upstream: name})

    def known(self) -> dict[str, Access]:
        """Every server by its base URL, the chosen one first."""
        chosen = {} if self.url is None else {self.url: self.access}
        return {**chosen, **self.servers}

    def access_to(self, url: str) -> Access | None:
        """How the server at this base URL is reached; None where it is not known."""
        return next((access for known, access in self.known().items() if _same(known, url)), None)

    def choosing(self, url: str, access: Access) -> Profile:
        """A profile in which the server at ``url`` is the chosen one; the one before stays known."""
        servers = {known: other for known, other in self.known().items() if not _same(known, url)}
        return replace(
            self,
            url=url,
            api_key=access.api_key,
            api_key_file=access.api_key_file,
            ca_file=access.ca_file,
            servers=servers,
        )

    def without(self, url: str) -> Profile:
        """A profile that does not know the server at ``url``. If it was the chosen one, none is."""
        servers = {known: other for known, other in self.servers.items() if not _same(known, url)}
        if self.url is None or not _same(self.url, url):
            return replace(self, servers=servers)
        return replace(self, url=None, api_key=None, api_key_file=None, ca_file=None, servers=servers)

    def resolve(
        self, url: str | None = None, api_key: Secret | None = None, ca_file: Path | None = None
    ) -> Connection:
        """Whom to speak with: arguments (flags) go before ``WELLHEAD_*`` variables, these before the profile.

        A server's key and authorities in the profile belong to its URL and are offered to no other server.

        Raises:
            SettingsError: no URL or no key is known.
            InputError: the URL is not one of a control plane.
        """
        url = url or os.environ.get("WELLHEAD_URL")
        if not (chosen := url or self.url):
            raise SettingsError(
                "no server is known: start one here with `wellhead up`, take one elsewhere with"
                " `wellhead login`, or give --url or WELLHEAD_URL"
            )
        chosen = base_url(chosen)
        ours = self.access_to(chosen)
        if api_key is None and (variable := os.environ.get("WELLHEAD_API_KEY")):
            api_key = Secret(variable)
        if ca_file is None and (variable := os.environ.get("WELLHEAD_CA_FILE")):
            ca_file = Path(variable)
        if ours is not None:
            api_key = api_key if api_key is not None else ours.key()
            ca_file = ca_file if ca_file is not None else ours.ca_file
        if api_key is None:
            raise SettingsError(
                f"no API key is known for {chosen}: give --api-key or WELLHEAD_API_KEY, or keep one with"
                f" `wellhead login {chosen}`"
            )
        return Connection(chosen, api_key, ca_file)


def _same(known: str, url: str) -> bool:
    return base_url(known) == base_url(url)


def _access(table: Mapping[str, str]) -> Access:
    return Access(
        api_key=Secret(table["api_key"]) if "api_key" in table else None,
        api_key_file=Path(table["api_key_file"]) if "api_key_file" in table else None,
        ca_file=Path(table["ca_file"]) if "ca_file" in table else None,
    )


def _access_lines(access: Access) -> list[str]:
    keys = {
        "api_key": access.api_key.reveal() if access.api_key is not None else None,
        "api_key_file": access.api_key_file,
        "ca_file": access.ca_file,
    }
    return [f"{key} = {_quoted(str(given))}" for key, given in keys.items() if given is not None]


def _check_strings(
    path: Path, table: Mapping[str, object], known: tuple[str, ...] | None, tables: str = ""
) -> None:
    """
    Raises:
        SettingsError: a key that is not ``known``, or a value that is no string.
    """
    if known is not None and (unknown := next((key for key in table if key not in known), None)):
        names = ", ".join([*known, tables]) if tables else ", ".join(known)
        raise SettingsError(f"unknown key {shown(unknown)} in {path}, known are {names}")
    if wrong := next((key for key, given in table.items() if not isinstance(given, str)), None):
        raise SettingsError(f"{shown(wrong)} in {path} must be a string")


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
