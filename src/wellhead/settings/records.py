"""The REST API and the records behind it."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, PositiveFloat, PositiveInt

from wellhead.errors import InputError


def _sha256(text: str) -> str:
    digest = text.strip().lower()
    if len(digest) != 64 or digest.strip("0123456789abcdef"):
        raise InputError("not 64 hexadecimal digits, as `printf %s SECRET | sha256sum` prints them")
    if digest == hashlib.sha256().hexdigest():
        raise InputError("this is the SHA-256 of nothing: everybody would have the secret")
    return digest


class RecordSettings(BaseModel):
    """How much is asked, and how much is kept."""

    max_api_body_bytes: PositiveInt = Field(
        65536, description="Longest body of a request to the REST API; beyond: 413."
    )
    api_reply_seconds: PositiveFloat = Field(
        5.0, description="Longest time for a request to the REST API, once it was read; beyond: 503."
    )
    api_requests_per_key_per_minute: PositiveInt = Field(
        6000, description="Most requests to the REST API with one key in a minute; beyond: 429."
    )
    api_requests_per_address_per_minute: PositiveInt = Field(
        3000, description="Most requests to the REST API from one address in a minute; beyond: 429."
    )
    api_failures_per_address_per_minute: PositiveInt = Field(
        10, description="Most wrong API keys from one address in a minute; beyond: 429."
    )
    tunnels_per_organization: PositiveInt = Field(
        10_000, description="Most tunnels of an organization, those pending removal too; beyond: 429."
    )
    keys_per_organization: PositiveInt = Field(
        1000, description="Most live API keys of an organization; beyond: 429."
    )
    testing_secret_sha256: Annotated[str, AfterValidator(_sha256)] | None = Field(
        None,
        description="Dangerous: SHA-256, in hex, of the secret by which others' test suites make and end"
        " organizations at `/api/v1/testing/`. Only for a server that nobody uses otherwise.",
    )
    history_days: PositiveInt = Field(
        400,
        le=36500,
        description="How long the audit, and the records of deleted tunnels and of ended keys, are kept.",
    )
