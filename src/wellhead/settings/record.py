"""A record of settings, and how its values are found: command line, environment, file, default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from wellhead.errors import SettingsError
from wellhead.settings.reading import PREFIX, problem, read_toml, unknown_keys, unknown_variables


class Record(BaseSettings):
    """What a program can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )
    config_variable: ClassVar[str]  # names the settings file where no flag does
    others: ClassVar[frozenset[str]] = frozenset()  # keys of programs that may share the environment

    def problems(self) -> list[str]:
        """What does not fit together, each as a sentence."""
        return []

    @classmethod
    def load(cls, config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Self:
        """The settings from the command line's overrides, the environment and a TOML file.

        ``config`` None means the file that ``config_variable`` names, else none. An override of None is as if
        not given.

        Raises:
            SettingsError: one line per problem: the key, its value, where it came from, the bound.
        """
        path = config or (Path(named) if (named := os.environ.get(cls.config_variable)) else None)
        flags = {key: item for key, item in (overrides or {}).items() if item is not None}
        sources: list[tuple[str, dict[str, Any]]] = [
            ("the command line", flags),
            ("the environment", EnvSettingsSource(cls)()),
            (str(path), read_toml(path) if path is not None else {}),
        ]
        fields = cls.model_fields
        problems = [*unknown_variables({*fields, *cls.others}), *unknown_keys(fields, sources)]
        merged = {key: given for _, keys in reversed(sources) for key, given in keys.items() if key in fields}
        try:
            settings = cls(**merged)
        except ValidationError as error:
            problems += [problem(detail, sources) for detail in error.errors(include_url=False)]
            raise SettingsError("\n".join(problems)) from None
        problems += settings.problems()
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
