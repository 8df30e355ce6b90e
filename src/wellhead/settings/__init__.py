"""The server's settings: one record from which file key, variable, flag, help and reference page come.

A key ``head_seconds`` is ``head_seconds = 10`` in the TOML file, ``WELLHEAD_HEAD_SECONDS=10`` in the
environment, and an override by the command line. Precedence: command line, environment, file, default.
Unknown keys are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from wellhead.errors import SettingsError
from wellhead.settings.carrier import CarrierSettings
from wellhead.settings.certificates import CertificateSettings
from wellhead.settings.crowds import CrowdSettings
from wellhead.settings.http2 import Http2Settings
from wellhead.settings.reading import (
    CLIENT_VARIABLES,
    PREFIX,
    problem,
    read_toml,
    unknown_keys,
    unknown_variables,
)
from wellhead.settings.records import RecordSettings
from wellhead.settings.values import home
from wellhead.settings.visits import VisitSettings

__all__ = ["CLIENT_VARIABLES", "PREFIX", "ServerSettings", "home", "read_toml"]


class ServerSettings(
    # Fields stand in the order of their classes from the last to the first.
    RecordSettings,
    CarrierSettings,
    Http2Settings,
    CrowdSettings,
    VisitSettings,
    CertificateSettings,
    BaseSettings,
):
    """What ``wellhead up`` can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @classmethod
    def load(cls, config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Self:
        """The settings from the command line's overrides, the environment and a TOML file.

        ``config`` None means ``$WELLHEAD_CONFIG``, else no file. An override of None is as if not given.

        Raises:
            SettingsError: one line per problem: the key, its value, where it came from, the bound.
        """
        path = config or (Path(named) if (named := os.environ.get("WELLHEAD_CONFIG")) else None)
        flags = {key: item for key, item in (overrides or {}).items() if item is not None}
        sources: list[tuple[str, dict[str, Any]]] = [
            ("the command line", flags),
            ("the environment", EnvSettingsSource(cls)()),
            (str(path), read_toml(path) if path is not None else {}),
        ]
        problems = [*unknown_variables(cls.model_fields), *unknown_keys(cls.model_fields, sources)]
        merged = {
            key: given
            for _, keys in reversed(sources)
            for key, given in keys.items()
            if key in cls.model_fields
        }
        try:
            settings = cls(**merged)
        except ValidationError as error:
            problems += [problem(detail, sources) for detail in error.errors(include_url=False)]
            raise SettingsError("\n".join(problems)) from None
        problems += settings.issuing_problems()
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` reads the sources itself, so that a complaint can say where a value came from; and a test
        # that builds the record by hand gets what it wrote, whatever its environment.
        return (init_settings,)
