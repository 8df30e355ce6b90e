"""The arguments of ``connect``: their types, defaults and first checks, in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from wellhead.agent.carriers import alpn_of
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.agent.renewal import OnCertificate
from wellhead.errors import InputError
from wellhead.model.access import Secret
from wellhead.model.names import check_name
from wellhead.model.records import TlsMode
from wellhead.net.uplink import OnStatus, UplinkTimes
from wellhead.net.upstream import OnExchange, UpstreamLimits

AnyPath = str | os.PathLike[str]
OnPendingRemoval = Literal["restore", "error"]
ForwardTo = str | int | Callable[..., Any]


class ListenOptions(TypedDict, total=False):
    """Keyword arguments of ``connect`` and ``connect_async`` but for the server; explained there."""

    interface: str
    ws_handler: Callable[..., Any] | None
    label: str | None
    max_body_bytes: int | None
    name: str | None
    tls_mode: str | None
    secret: str | Secret | None
    host_header: str
    upstream_http: str
    verify_upstream: bool
    upstream_ca_file: AnyPath | None
    state_dir: AnyPath | None
    on_status: OnStatus | None
    on_request: OnExchange | None
    on_certificate: OnCertificate | None
    on_pending_removal: OnPendingRemoval
    print_secret: bool
    drain_seconds: float
    carrier: str
    limits: UpstreamLimits
    intake: IntakeLimits
    times: UplinkTimes


class ConnectOptions(ListenOptions, total=False):
    """Keyword arguments of ``connect`` and ``connect_async``."""

    url: str | None
    api_key: str | Secret | None
    ca_file: AnyPath | None


@dataclass(frozen=True, slots=True)
class Options:
    """One call's arguments.

    Raises:
        InputError: a name or a choice that is none.
    """

    forward_to: ForwardTo
    interface: str = "auto"
    ws_handler: Callable[..., Any] | None = None
    label: str | None = None
    max_body_bytes: int | None = None
    name: str | None = None
    tls_mode: str | None = None
    url: str | None = None
    api_key: str | Secret | None = None
    ca_file: AnyPath | None = None
    secret: str | Secret | None = None
    host_header: str = "rewrite"
    upstream_http: str = "auto"
    verify_upstream: bool = True
    upstream_ca_file: AnyPath | None = None
    state_dir: AnyPath | None = None
    on_status: OnStatus | None = None
    on_request: OnExchange | None = None
    on_certificate: OnCertificate | None = None
    on_pending_removal: OnPendingRemoval = "restore"
    print_secret: bool = True
    drain_seconds: float = 5.0
    carrier: str = "auto"
    limits: UpstreamLimits = field(default_factory=UpstreamLimits)
    intake: IntakeLimits = field(default_factory=IntakeLimits)
    times: UplinkTimes = field(default_factory=UplinkTimes)

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        if self.tls_mode is not None:
            TlsMode.read(self.tls_mode)
        if self.on_pending_removal not in ("restore", "error"):
            raise InputError(f"on_pending_removal must be restore or error, not {self.on_pending_removal!r}")
        alpn_of(self.carrier)


def as_secret(given: str | Secret | None) -> Secret | None:
    """None for nothing and for an empty text."""
    secret = Secret(given) if isinstance(given, str) else given
    return secret or None


def as_path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)
