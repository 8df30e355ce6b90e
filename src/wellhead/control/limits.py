"""How often a caller may ask: per key, per address, and wrong keys per address."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wellhead.model.rates import Rate
from wellhead.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """The rates of one server."""

    requests_of_key: Rate
    requests_of_address: Rate
    failures_of_address: Rate
    loopback_exempt: bool

    @classmethod
    def of(cls, settings: ServerSettings, monotonic: Callable[[], float] = time.monotonic) -> Limits:
        return cls(
            Rate(settings.api_requests_per_key_per_minute, monotonic),
            Rate(settings.api_requests_per_address_per_minute, monotonic),
            Rate(settings.api_failures_per_address_per_minute, monotonic),
            settings.loopback_exempt,
        )
