"""The server's settings: one record from which file key, variable, flag, help and reference page come.

A key ``head_seconds`` is ``head_seconds = 10`` in the TOML file, ``WELLHEAD_HEAD_SECONDS=10`` in the
environment, and an override by the command line. Precedence: command line, environment, file, default.
Unknown keys are refused.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from wellhead.errors import InputError, SettingsError
from wellhead.model.names import is_reserved, join_authority, split_authority
from wellhead.model.text import shown

PREFIX = "WELLHEAD_"
MAX_WINDOW = 2**31 - 1  # bytes: the largest window that HTTP/2 can name
MAX_CARRIED = 60 * 1024  # bytes of a head that still fits into a frame, with what the edge adds to it

CLIENT_VARIABLES: Mapping[str, str] = {
    "WELLHEAD_HOME": "Directory of profile, tunnels' state and `server/`; default `~/.wellhead`.",
    "WELLHEAD_CONFIG": "The server's settings file; the flag `--config` goes before it.",
    "WELLHEAD_URL": "Base URL of the control plane, for agents and the CLI.",
    "WELLHEAD_API_KEY": "API key, for agents and the CLI.",
    "WELLHEAD_CA_FILE": "PEM file of certificate authorities to trust, for agents and the CLI.",
    "WELLHEAD_TUNNEL_SECRET": "A tunnel's connect secret, for agents.",
    "WELLHEAD_DEBUG": "`1`: a command that fails shows where, with a traceback.",
}
"""Variables that the server's settings do not read, but that may stand in its environment."""


def home() -> Path:
    """The user's directory: ``$WELLHEAD_HOME``, or ``~/.wellhead``. It need not exist."""
    return Path(os.environ.get("WELLHEAD_HOME") or "~/.wellhead").expanduser().absolute()


def _address(text: str) -> str:
    if text.isascii() and text.isdigit():
        raise InputError(f"{shown(text)} has no host, expected HOST:PORT, as in 127.0.0.1:8443")
    hostname, port = split_authority(text)
    if port is None:
        raise InputError(f"{shown(text)} has no port, expected HOST:PORT (port 0: any free one)")
    return join_authority(hostname, port)


def _hostname(text: str) -> str:
    hostname, port = split_authority(text)
    if port is not None:
        raise InputError(f"{shown(text)} has a port, expected a hostname alone")
    return hostname


def _bracketed(text: str) -> str:
    """An IPv6 address stands for itself where no port can follow."""
    return f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text


def _domain(text: str) -> str:
    hostname = _hostname(text)
    if hostname[-1].isdigit() and not hostname.rpartition(".")[2].strip("0123456789"):
        raise InputError(f"{shown(text)} is an IP address, names cannot stand under it")
    if ":" in hostname:
        raise InputError(f"{shown(text)} is an IP address, names cannot stand under it")
    if len(hostname) > 253 - 64:
        raise InputError(f"{shown(text)} has {len(hostname)} characters, at most 189 leave room for a name")
    return hostname


def _off(given: object) -> object:
    """``off`` and TOML's ``false`` say that there is none."""
    return None if given is False or (isinstance(given, str) and given.lower() == "off") else given


def _list(given: object) -> object:
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _dns_server(text: str) -> str:
    hostname, port = split_authority(_bracketed(text))
    return join_authority(hostname, port or 53)


def _sha256(text: str) -> str:
    digest = text.strip().lower()
    if len(digest) != 64 or digest.strip("0123456789abcdef"):
        raise InputError("not 64 hexadecimal digits, as `printf %s SECRET | sha256sum` prints them")
    return digest


def _acme_directory(text: str) -> str:
    if not text.startswith("https://") or any(c.isspace() for c in text):
        raise InputError(f"{shown(text)} is not an https:// URL")
    return text


def _key_pairs(pairs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(":".join(str(path) for path in _key_pair(pair)) for pair in pairs)


def _key_pair(text: str) -> tuple[Path, Path]:
    parts = text.split(":")
    if len(parts) != 2 or not all(parts):
        raise InputError(f"{shown(text)} is no pair of files, expected CERTIFICATE:KEY")
    certificate, key = (Path(part).expanduser().absolute() for part in parts)
    return certificate, key


Address = Annotated[str, AfterValidator(_address)]
Hostname = Annotated[str, AfterValidator(lambda text: _hostname(_bracketed(text)))]
Domain = Annotated[str, AfterValidator(_domain)]
Directory = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
AccessLog = Annotated[str, AfterValidator(lambda text: text.lower() if text.lower() in _STREAMS else text)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)]
KeyPairs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list), AfterValidator(_key_pairs)]
_STREAMS = ("stderr", "off")
_DNS_NEEDS = {
    "rfc2136": ("dns_server", "dns_tsig_name", "dns_tsig_secret_file"),
    "command": ("dns_command",),
}


class ServerSettings(BaseSettings):
    """What ``wellhead up`` can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    data_dir: Directory = Field(
        default_factory=lambda: home() / "server",
        description="Where database, local CA and admin key live; made with mode 0700.",
    )
    domain: Domain = Field("localhost", description="Tunnels are names under this domain.")
    zone: Hostname | None = Field(
        None, description="The hostname or IP address that agents dial; default: the domain."
    )
    https: Address = Field("127.0.0.1:8443", description="Where visitors and agents connect with TLS.")
    http: Annotated[Address | None, BeforeValidator(_off)] = Field(
        "127.0.0.1:8080", description="Where visitors connect without TLS; `off` for nowhere."
    )
    tls_files: KeyPairs = Field(
        (),
        description="Certificates of the operator's, `CERTIFICATE:KEY` each, both PEM files, the certificate"
        " followed by its issuers; comma separated in a variable.",
    )
    tls_reload_seconds: PositiveFloat = Field(
        30.0,
        description="Time between two looks whether a certificate's files changed; SIGHUP looks at once.",
    )
    reserved_names: Names = Field(
        (),
        description="Names that no tunnel may have, beside the built-in ones; comma separated in a variable.",
    )
    issuer: Literal["local", "acme", "files"] = Field(
        "local",
        description="Who signs certificates: `local`, the server's own CA; `acme`, a public one; `files`, the"
        " operator. Without its own CA the edge answers a name that has no certificate by a TLS alert.",
    )
    acme_directory: Annotated[str, AfterValidator(_acme_directory)] = Field(
        "https://acme-v02.api.letsencrypt.org/directory",
        description="The ACME directory; with `issuer = acme` its terms of service are agreed to.",
    )
    acme_email: str | None = Field(
        None, description="Where the certificate authority writes to, about its account."
    )
    acme_ca_file: Directory | None = Field(
        None,
        description="PEM file of the authorities that vouch for the ACME directory; default: public ones.",
    )
    acme_challenge: Literal["http-01", "tls-alpn-01", "dns-01"] = Field(
        "http-01",
        description="How the names are shown to be ours: `http-01` at port 80, `tls-alpn-01` at port 443,"
        " `dns-01` in the DNS, which also gives a wildcard certificate.",
    )
    acme_eab_kid: str | None = Field(
        None, description="Key id of the external account that the ACME account is bound to."
    )
    acme_eab_key_file: Directory | None = Field(
        None, description="File, mode 0600, of that account's MAC key in base64url."
    )
    acme_account_key_days: NonNegativeInt = Field(
        365, description="Age at which the ACME account's own key is changed for a new one; 0: never."
    )
    acme_order_seconds: PositiveFloat = Field(
        150.0, le=170, description="Longest time from a certificate's order to the certificate."
    )
    dns_provider: Literal["rfc2136", "route53", "command"] | None = Field(
        None, description="How `dns-01` writes its records: DNS updates, Amazon Route 53, or a program."
    )
    dns_server: Annotated[str, AfterValidator(_dns_server)] | None = Field(
        None, description="`rfc2136`: the zone's primary server, HOST or HOST:PORT."
    )
    dns_resolver: Annotated[str, AfterValidator(_dns_server)] | None = Field(
        None,
        description="DNS server, HOST or HOST:PORT, that is asked where an `_acme-challenge` name leads that"
        " is an alias (CNAME): the record is written there. Default: this machine's resolver.",
    )
    dns_zone: Domain | None = Field(
        None, description="The zone that records are written into; default: the innermost that there is."
    )
    dns_tsig_name: Hostname | None = Field(None, description="`rfc2136`: name of the TSIG key.")
    dns_tsig_secret_file: Directory | None = Field(
        None, description="`rfc2136`: file, mode 0600, of the TSIG key in base64."
    )
    dns_tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = Field(
        "hmac-sha256", description="`rfc2136`: the TSIG key's algorithm."
    )
    dns_command: Directory | None = Field(
        None, description="`command`: the program, called with `add` or `remove`, a name and a value."
    )
    dns_wait_seconds: PositiveFloat = Field(
        120.0, description="Longest wait until a record that was written is answered everywhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe lines that are logged."
    )
    access_log: AccessLog = Field(
        "stderr", description="Where the line per exchange goes: `stderr`, `off`, or a file's path."
    )
    access_log_query: Literal["masked", "whole", "off"] = Field(
        "masked",
        description="The query in that line: `masked` (values of `token`, `code`, … hidden), `whole`, `off`.",
    )

    max_request_line_bytes: PositiveInt = Field(8192, description="Longest request line; beyond: 414.")
    max_field_bytes: PositiveInt = Field(
        8192, description="Longest header field, name and value; beyond: 431."
    )
    max_head_bytes: PositiveInt = Field(
        32768, le=MAX_CARRIED, description="Longest request head; beyond: 431."
    )
    max_fields: PositiveInt = Field(100, description="Most header fields of a request; beyond: 431.")
    max_trailer_bytes: PositiveInt = Field(
        8192, le=MAX_CARRIED, description="Most bytes of trailers after a body; beyond: 400."
    )
    max_chunk_extension_bytes: NonNegativeInt = Field(
        256, description="Longest extension of one chunk; beyond: 400."
    )
    max_reply_head_bytes: PositiveInt = Field(
        65536, description="Longest head of an upstream's reply; beyond: 502."
    )
    max_interim_heads: NonNegativeInt = Field(16, description="Most 1xx heads before a reply; beyond: 502.")
    max_pipelined: PositiveInt = Field(
        16, description="Most requests read ahead of their answers on one connection."
    )
    max_unread_bytes: NonNegativeInt = Field(
        65536, description="Most of an unread body that is read away to keep a connection."
    )
    unread_seconds: NonNegativeFloat = Field(
        1.0, description="Longest time for reading an unread body away, before the connection is closed."
    )

    hello_seconds: PositiveFloat = Field(
        5.0, description="For a whole ClientHello, and for an agent's hello after the handshake."
    )
    handshake_seconds: PositiveFloat = Field(10.0, description="For a TLS handshake.")
    head_seconds: PositiveFloat = Field(
        10.0, description="For a request's head, counted from its first byte; beyond: 408."
    )
    body_idle_seconds: PositiveFloat = Field(
        30.0, description="Longest silence within a request's body; beyond: 408."
    )
    body_min_bytes_per_second: NonNegativeFloat = Field(
        500.0, description="Slowest request body, judged after `body_grace_seconds`; beyond: 408."
    )
    body_grace_seconds: NonNegativeFloat = Field(
        10.0, description="How long a request's body may be slow before its speed is judged."
    )
    write_idle_seconds: PositiveFloat = Field(
        60.0,
        description="Longest time a reader may take nothing while bytes wait; then its connection is closed.",
    )
    idle_seconds: PositiveFloat = Field(
        620.0, description="Longest time a visitor's connection may stay open without a request."
    )
    reply_seconds: PositiveFloat = Field(
        120.0, description="Longest wait for an upstream's reply head; beyond: 504."
    )
    grpc_silent_seconds: PositiveFloat = Field(
        3600.0,
        description="Longest silence of a gRPC call before its reply begins, in place of `reply_seconds` and "
        "the limits of slow bodies: its caller sets the deadline.",
    )
    half_close_seconds: NonNegativeFloat = Field(
        5.0,
        description="How long a visitor that ended its half may wait for a reply to begin; then it is taken"
        " for gone.",
    )
    linger_seconds: NonNegativeFloat = Field(
        1.0, description="How long a connection that we close is read on, so that the last reply arrives."
    )
    passthrough_idle_seconds: PositiveFloat = Field(
        3600.0,
        description="Longest silence of a passthrough tunnel's connection, both ways; then it is closed.",
    )
    passthrough_half_close_seconds: NonNegativeFloat = Field(
        5.0,
        description="Longest silence of a passthrough tunnel's connection of which one half has ended and"
        " nothing waits; then it is closed.",
    )
    passthrough_linger_seconds: NonNegativeFloat = Field(
        1.0,
        description="How long a passthrough tunnel's connection that we close is read on, so that what was"
        " said last arrives.",
    )
    drain_seconds: NonNegativeFloat = Field(30.0, description="For open exchanges to finish after SIGTERM.")

    max_connections: NonNegativeInt = Field(
        0, description="Most connections of visitors; 0: four fifths of the open-file limit."
    )
    connections_per_address: PositiveInt = Field(
        256, description="Most connections of one visitor's address; beyond: 429."
    )
    connections_per_tunnel: PositiveInt = Field(
        1000, description="Most exchanges of one tunnel at once, each on a connection; beyond: 503."
    )
    max_held_bytes: NonNegativeInt = Field(
        0,
        description="Most bytes held for slow readers and agents, all together; beyond, new requests get 503;"
        " 0: a quarter of the memory.",
    )
    session_held_bytes: PositiveInt = Field(
        32 * 1024 * 1024,
        description="Most reply bytes held for one agent's session; beyond, the largest stream is reset.",
    )
    stream_window_bytes: Annotated[int, Field(ge=16 * 1024, le=16 * 1024 * 1024)] = Field(
        256 * 1024, description="Bytes that an agent may send on a stream before the visitor has taken any."
    )
    max_loop_lag_seconds: NonNegativeFloat = Field(
        0.5,
        description="How late the event loop may stay; beyond, a growing part of new requests gets 503;"
        " 0: however late.",
    )
    loop_stall_seconds: NonNegativeFloat = Field(
        1.0, description="The event loop is logged with its stack when it stands for so long; 0: never."
    )
    max_handshakes: PositiveInt = Field(500, description="Most unfinished TLS handshakes.")
    handshakes_per_address: PositiveInt = Field(
        20, description="Most unfinished TLS handshakes of one address."
    )
    unknown_names_per_minute: PositiveInt = Field(
        600,
        description="Most handshakes for names under the domain that no tunnel has; beyond: the TLS alert"
        " unrecognized_name in place of the page 404.",
    )
    rejections_per_minute: PositiveInt = Field(
        10, description="Most rejected credentials of one agent's address; beyond, its hellos are put off."
    )
    loopback_exempt: bool = Field(
        True,
        description="Whether limits per address spare 127.0.0.0/8 and ::1, and `/metrics` asks them for no"
        " key; off behind a local proxy.",
    )

    ping_seconds: PositiveFloat = Field(
        10.0, description="Silence on a session after which it is asked whether it lives."
    )
    ping_timeout_seconds: PositiveFloat = Field(
        5.0, description="Wait for the answer, before the session is given up."
    )
    websocket_ping_seconds: PositiveFloat = Field(
        20.0, description="Time between the edge's pings on a visitor's WebSocket."
    )
    websocket_drain_seconds: NonNegativeFloat = Field(
        10.0,
        description="Longest time over which a restart asks open WebSockets to come again, 50 ms each.",
    )
    websocket_pings_per_second: PositiveFloat = Field(
        100.0, description="Most pings and unasked pongs of one WebSocket; beyond: close 1008."
    )

    h2_max_streams: PositiveInt = Field(
        100, description="Most requests at once on one HTTP/2 connection; beyond: REFUSED_STREAM."
    )
    h2_max_running: PositiveInt = Field(
        150,
        description="Most requests at once, with those that were reset less than `h2_linger_seconds` ago.",
    )
    h2_linger_seconds: NonNegativeFloat = Field(
        1.0, description="How long a request that was reset counts as running."
    )
    h2_window_bytes: PositiveInt = Field(
        196608,
        ge=16384,
        le=MAX_WINDOW,
        description="Most of a request's body that a visitor may send before the agent took it.",
    )
    h2_connection_window_bytes: PositiveInt = Field(
        4194304,
        ge=65535,
        le=MAX_WINDOW,
        description="Most bytes of all bodies that a visitor may send without hearing from the edge.",
    )
    h2_max_held_bytes: PositiveInt = Field(
        33554432,
        description="Most bytes that wait on one connection for agents; beyond: the fullest stream is reset.",
    )
    h2_max_block_bytes: PositiveInt = Field(
        32768, description="Longest header block as it is on the wire; beyond: the connection ends."
    )
    h2_max_continuations: NonNegativeInt = Field(
        16, description="Most CONTINUATION frames of a header block; beyond: the connection ends."
    )
    h2_max_list_bytes: PositiveInt = Field(
        32768, description="Longest header list, each field counted with 32 bytes more; beyond: 431."
    )
    h2_max_decoded_bytes: PositiveInt = Field(
        65536, description="Longest header list, so counted, that is decoded; beyond: the connection ends."
    )
    h2_max_fields: PositiveInt = Field(
        512, description="Most fields in a header list that is decoded; beyond: the connection ends."
    )
    h2_resets: NonNegativeInt = Field(
        200, description="Most requests that a visitor resets in one go, beside `h2_resets_per_second`."
    )
    h2_resets_per_second: NonNegativeFloat = Field(
        50.0, description="Most requests that a visitor resets in the long run; beyond: the connection ends."
    )
    h2_early_reset_seconds: NonNegativeFloat = Field(
        1.0, description="A request that is reset so soon counts for `h2_early_reset_percent`."
    )
    h2_early_reset_percent: NonNegativeInt = Field(
        50, le=100, description="Largest part of a connection's requests reset early; beyond: it ends."
    )
    h2_early_reset_streams: PositiveInt = Field(
        200, description="Fewest requests of a connection before that part is judged."
    )
    h2_violations: NonNegativeInt = Field(
        100, description="Most streams that break a rule in one go, beside `h2_violations_per_second`."
    )
    h2_violations_per_second: NonNegativeFloat = Field(
        33.0, description="Most streams that break a rule in the long run; beyond: the connection ends."
    )
    h2_settings_per_second: PositiveFloat = Field(
        50.0, description="Most SETTINGS frames of a connection; beyond: it ends."
    )
    h2_pings_per_second: PositiveFloat = Field(
        100.0, description="Most PING frames of a connection; beyond: it ends."
    )
    h2_max_control_replies: PositiveInt = Field(
        1000, description="Most answers that wait because a visitor does not read; beyond: it ends."
    )
    h2_max_empty_frames: PositiveInt = Field(
        10, description="Most frames in a row that bring nothing and end nothing; beyond: it ends."
    )
    h2_empty_frames_per_second: PositiveFloat = Field(
        100.0, description="Most such frames in the long run; beyond: the connection ends."
    )
    h2_max_glitches: PositiveInt = Field(
        100, description="Most small violations, halved each second; beyond: the connection ends."
    )
    h2_stall_bytes: PositiveInt = Field(
        1024,
        description="Fewest bytes of a waiting reply that a visitor takes in `write_idle_seconds`; below:"
        " its stream is reset.",
    )
    h2_preface_seconds: PositiveFloat = Field(
        5.0, description="For an HTTP/2 connection's first words; beyond: it ends."
    )
    h2_settings_seconds: PositiveFloat = Field(
        10.0, description="For the acknowledgement of our SETTINGS; beyond: the connection ends."
    )
    h2_goaway_seconds: NonNegativeFloat = Field(
        2.0, description="Longest time between the warning and the last GOAWAY of a connection that leaves."
    )
    h2_max_age_seconds: PositiveFloat = Field(
        3600.0,
        description="Age at which an HTTP/2 connection is asked to leave; up to a tenth more by chance.",
    )

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
    local_certificate_days: PositiveFloat = Field(
        90.0, le=397, description="Life of a certificate that the local authority signs for an agent's key."
    )
    name_hold: Literal["public", "every", "off"] = Field(
        "public",
        description="A deleted tunnel's name is kept from other organizations until its last certificate"
        " expires: of a `public` issuer (the local one's are revoked), of `every` issuer, or `off`.",
    )
    csr_per_tunnel_per_hour: PositiveInt = Field(
        20,
        description="Most certificates ordered for one tunnel in an hour; beyond: 429."
        " From the local authority, seven times as many in a week.",
    )
    issue_budget_per_name_per_week: PositiveInt = Field(
        4,
        description="Most certificates ordered from a public issuer for one name in a week; beyond: 429."
        " No budget counts a renewal that is due.",
    )
    issue_budget_per_organization_per_week: PositiveInt = Field(
        20,
        description="Most certificates ordered from a public issuer for one organization in a week; beyond:"
        " 429.",
    )
    issue_budget_per_week: PositiveInt = Field(
        45, description="Most certificates ordered from a public issuer in a week; beyond: 429."
    )
    history_days: PositiveInt = Field(
        400,
        le=36500,
        description="How long the audit, and the records of deleted tunnels and of ended keys, are kept.",
    )

    @property
    def agent_zone(self) -> str:
        """The hostname that agents dial."""
        return self.zone if self.zone is not None else self.domain

    @property
    def tls_pairs(self) -> list[tuple[Path, Path]]:
        """The operator's certificates and keys."""
        return [_key_pair(pair) for pair in self.tls_files]

    def is_reserved(self, name: str) -> bool:
        """Whether a well-formed tunnel name is kept from tunnels."""
        # Agents and the API are at the zone: a tunnel of its name, or over it, would be there too.
        above, under, _ = self.agent_zone.rpartition("." + self.domain)
        return is_reserved(name, (*self.reserved_names, above.rpartition(".")[2] if under else ""))

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
        problems = [*_unknown_variables(cls), *_unknown_keys(cls, sources)]
        merged = {
            key: given
            for _, keys in reversed(sources)
            for key, given in keys.items()
            if key in cls.model_fields
        }
        try:
            settings = cls(**merged)
        except ValidationError as error:
            problems += [_problem(detail, sources) for detail in error.errors(include_url=False)]
            raise SettingsError("\n".join(problems)) from None
        problems += settings.issuing_problems()
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def issuing_problems(self) -> list[str]:
        """What the chosen issuer lacks, a sentence each, beginning with the setting."""
        if self.issuer == "files" and not self.tls_files:
            return ["tls_files: needed, because issuer is files"]
        if self.issuer != "acme":
            return []
        needs = [("acme_eab_kid", "acme_eab_key_file"), ("acme_eab_key_file", "acme_eab_kid")]
        problems = [
            f"{missing}: needed, because {given} is set"
            for given, missing in needs
            if getattr(self, given) is not None and getattr(self, missing) is None
        ]
        if self.acme_challenge == "http-01" and self.http is None:
            problems.append("http: needed, because acme_challenge is http-01, which is asked for at port 80")
        if self.acme_challenge == "dns-01":
            if self.dns_provider is None:
                problems.append(
                    "dns_provider: needed, because acme_challenge is dns-01: rfc2136, route53 or command"
                )
            problems += [
                f"{missing}: needed, because dns_provider is {self.dns_provider}"
                for missing in _DNS_NEEDS.get(self.dns_provider or "", ())
                if getattr(self, missing) is None
            ]
        return problems

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


def _unknown_variables(cls: type[ServerSettings]) -> list[str]:
    known = {*CLIENT_VARIABLES, *(PREFIX + key.upper() for key in cls.model_fields)}
    # Names only: a mistyped WELLHEAD_API_KEY holds a secret.
    return [
        f"unknown variable {shown(name)} in the environment{_did_you_mean(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known
    ]


def _unknown_keys(cls: type[ServerSettings], sources: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [
        f"unknown key {shown(key)} in {origin}{_did_you_mean(key, cls.model_fields)}"
        for origin, keys in sources
        for key in keys
        if key not in cls.model_fields
    ]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _problem(detail: ErrorDetails, sources: list[tuple[str, dict[str, Any]]]) -> str:
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


if __name__ == "__main__":
    print(reference_page(), end="")
