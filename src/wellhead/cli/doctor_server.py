"""Checks of the way to a server: its name, its port, its certificate, its clock, its version, our key.

Each dials for itself, so each can be asked alone. Nothing secret is sent on a connection that was not
verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from wellhead.cli.doctor_finding import Finding, failed, ok, skipped, warning
from wellhead.errors import DialError, LinkError, SettingsError, TrustError, WellheadError
from wellhead.model.access import Secret
from wellhead.model.names import is_loopback
from wellhead.model.text import escape
from wellhead.net.certificates import alarm_step
from wellhead.net.dialling import dial, dial_tls, resolve
from wellhead.net.proxy import Proxy, open_tunnel, proxy_for
from wellhead.net.sockets import authority, why
from wellhead.net.tls import ALPN_HTTP, ALPN_MUX, client_context
from wellhead.version import VERSION

STEP_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 * 1024
SKEW_SECONDS = 60.0  # beyond it times in logs and deadlines mislead
SKEW_LIMIT_SECONDS = 3600.0  # beyond it a certificate that was just made is not valid yet

# OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
KEY_REMEDY = "give --api-key or WELLHEAD_API_KEY; a server keeps its first key in {data-dir}/admin-key"


@dataclass(frozen=True, slots=True)
class Server:
    """The server that commands of this user would speak with."""

    url: str  # canonical
    ca_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    @property
    def hostname(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def where(self) -> str:
        return authority(self.hostname, self.port)

    def proxy(self) -> Proxy | None:
        """
        Raises:
            SettingsError: the variable is malformed.
        """
        return None if is_loopback(self.hostname) else proxy_for(self.hostname, self.port, self.environ)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    fields: Mapping[str, str]  # names in lower case
    body: bytes


async def check_name(server: Server) -> Finding:
    check = "name"
    if is_loopback(server.hostname):
        return ok(check, f"{server.hostname} is this machine")
    try:
        found = await asyncio.wait_for(resolve(server.hostname, server.port), STEP_SECONDS)
    except (DialError, TimeoutError) as error:
        what = str(error) or f"{server.hostname}: no answer within {STEP_SECONDS:g} s"
        with contextlib.suppress(SettingsError):
            if server.proxy() is not None:
                return ok(check, f"{what}; the proxy looks it up")
        return failed(check, what, "is the name right, and is there a DNS record for it?")
    return ok(check, f"{server.hostname} is {', '.join(address.host for address in found)}")


async def check_reach(server: Server) -> Finding:
    check = "reach"
    try:
        (await _socket(server)).close()
    except SettingsError as error:
        return failed(check, str(error), "correct the proxy variable")
    except LinkError as error:
        if is_loopback(server.hostname):
            return failed(check, str(error), "no server runs there: start it with `wellhead up`")
        return failed(
            check, str(error), "does the server run, and does a firewall between let this port through?"
        )
    return ok(check, f"{server.where} accepts connections")


async def check_trust(server: Server) -> Finding:
    check = "trust"
    if not server.tls:
        return ok(check, "no certificate is needed: plain HTTP on this machine")
    try:
        context = client_context(ca_file=server.ca_file, alpn=[ALPN_HTTP])
    except SettingsError as error:
        return failed(check, str(error), "name the server's ca.pem with --ca-file, or in the profile")
    try:
        async with _stream(server, context) as (_, writer):
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(found)
        ends = certificate.not_valid_after_utc
        left = ends - dt.datetime.now(dt.UTC)
        if alarm_step(left, ends - certificate.not_valid_before_utc) is not None:
            when = f"{ends:%Y-%m-%d %H:%M} UTC, in {left / dt.timedelta(days=1):.1f} days"
            told = f"the certificate is for {server.hostname} and trusted, but ends on {when}"
            return warning(check, told, "find out from the server's log why it was not renewed")
        return ok(check, f"the certificate is for {server.hostname} and trusted, by {context.trusts}")
    except ssl.SSLCertVerificationError as error:
        return failed(check, *await _distrust(server, error))
    except ssl.SSLError as error:
        reason = (error.reason or "no TLS").replace("_", " ").lower()
        return failed(check, f"{server.where} does not speak TLS with us: {reason}", "is this the TLS port?")
    except (OSError, LinkError) as error:
        return failed(
            check, f"{server.where} does not do a TLS handshake: {_words(error)}", "is this the TLS port?"
        )


async def _distrust(server: Server, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """What is wrong with a certificate, in its own words, and what to do."""
    certificate = await _certificate(server)
    if certificate is None:
        return f"its certificate is not trusted: {error.verify_message}", "look at it with openssl s_client"
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    match error.verify_code:
        case code if code in (_WRONG_NAME, _WRONG_ADDRESS):
            names = ", ".join(_names(certificate)) or "no name at all"
            return (
                f"the certificate is for {names}, not for {server.hostname}",
                "dial a name that it has, or tell the server this one with --domain or --zone",
            )
        case code if code == _EXPIRED:
            return (
                f"the certificate ended on {ends:%Y-%m-%d %H:%M} UTC, and this machine's clock says"
                f" {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
                "renew the certificate, or set the clock that is wrong",
            )
        case code if code == _NOT_YET_VALID:
            return (
                f"the certificate begins on {begins:%Y-%m-%d %H:%M} UTC, and this machine's clock says"
                f" {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
                "set the clock that is wrong",
            )
    issuer = escape(certificate.issuer.rfc4514_string())
    trusts = server.ca_file or "the system's certificates"
    return (
        f"the certificate was signed by {issuer}, unknown to {trusts}",
        "give --ca-file with the server's ca.pem, or let this machine trust it: `wellhead trust`",
    )


async def _certificate(server: Server) -> x509.Certificate | None:
    try:
        async with _stream(server, client_context(verify=False, alpn=[ALPN_HTTP])) as (_, writer):
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(found)
    except (OSError, LinkError, ValueError):
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [escape(str(name.value)) for name in names]


async def check_clock(server: Server, clock: float | None = None) -> Finding:
    """``clock``: what this machine takes the time to be, seconds since 1970; None asks it."""
    check = "clock"
    try:
        # A wrong clock is a reason for distrust, so the date is read whoever is there.
        answer = await ask(server, "/healthz", verify=False)
        theirs = email.utils.parsedate_to_datetime(answer.fields.get("date", "")).timestamp()
    except (WellheadError, ValueError, TypeError):
        return skipped(check, "the server told no date")
    skew = (time.time() if clock is None else clock) - theirs
    if abs(skew) <= SKEW_SECONDS:
        return ok(check, "this machine and the server agree on the time")
    direction = "ahead of" if skew > 0 else "behind"
    verdict = failed if abs(skew) >= SKEW_LIMIT_SECONDS else warning
    return verdict(
        check,
        f"this machine's clock is {abs(skew):.0f} s {direction} the server's",
        "set the one that is wrong: timedatectl set-ntp true",
    )


async def check_version(server: Server, *, trusted: bool) -> Finding:
    check = "version"
    try:
        answer = await ask(server, "/healthz", verify=trusted)
    except WellheadError as error:
        return failed(check, str(error), "what listens there does not speak HTTP")
    version = _version(answer)
    if answer.status == 503:
        return failed(
            check,
            f"the control plane at {server.where} does not answer right now (503)",
            "try again in a moment; tunnels are served on, and the server's log says what ails it",
        )
    if version is None:
        return failed(
            check,
            f"{server.where} answered {answer.status}, and not as a Wellhead server does",
            "is this the right URL? A hostname of a tunnel is not the server's",
        )
    if version.split(".")[:2] != VERSION.split(".")[:2]:
        return warning(
            check, f"the server is {version}, this program {VERSION}", "upgrade the older of the two"
        )
    return ok(check, f"the server is {version}, this program {VERSION}")


def _version(answer: Answer) -> str | None:
    if answer.status != 200:
        return None
    try:
        body = json.loads(answer.body)
    except ValueError:
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return escape(version[:40]) if isinstance(version, str) else None


async def check_carrier(server: Server) -> Finding:
    """Whether agents are let through to the edge: some proxies and load balancers end TLS on the way."""
    check = "agents"
    if not server.tls:
        return skipped(check, "agents dial the TLS port, which this URL does not name")
    try:
        transport, _ = await dial_tls(
            server.hostname,
            server.port,
            context=client_context(ca_file=server.ca_file, alpn=[ALPN_MUX]),
            protocol_factory=asyncio.Protocol,
            alpn=ALPN_MUX,
            timeout_seconds=STEP_SECONDS,
            environ=server.environ,
        )
    except WellheadError as error:
        return failed(
            check,
            str(error),
            f"let TLS pass through to the server: something between does not speak {ALPN_MUX}",
        )
    transport.abort()
    return ok(check, f"{server.where} takes agents ({ALPN_MUX})")


async def check_key(server: Server, key: Secret | None) -> Finding:
    """Whether the server knows the key; sent over verified TLS, or within this machine, only."""
    check = "key"
    remedy = KEY_REMEDY
    if key is None and server.environ.get("WELLHEAD_TUNNEL_SECRET"):
        found = f"no API key is known for {server.url}; the connect secret that is set is enough for an agent"
        return ok(check, found)
    if key is None:
        return failed(check, f"no API key is known for {server.url}", remedy)
    if not all("!" <= c <= "~" for c in key.reveal()):
        return failed(
            check, "the API key holds a character that no key has (a space or a line break?)", remedy
        )
    try:
        answer = await ask(server, "/api/v1/tunnels/?name=doctor", {"X-API-Key": key.reveal()})
    except WellheadError as error:
        return failed(check, str(error), "try again")
    if answer.status == 401:
        return failed(check, "the server does not accept the API key: unknown, expired or revoked", remedy)
    if answer.status in (200, 403):
        return ok(check, "the server accepts the API key")
    return warning(check, f"the server answered {answer.status} when it was shown the key", "try again later")


async def ask(
    server: Server, path: str, fields: Mapping[str, str] | None = None, *, verify: bool = True
) -> Answer:
    """GET a path over a connection of its own.

    Raises:
        DialError, TrustError: nobody there, or not who it should be.
        LinkError: it broke off, came late, or is no HTTP.
        SettingsError: the CA file or the proxy variable is bad.
    """
    context = None
    if server.tls:
        context = client_context(ca_file=server.ca_file if verify else None, verify=verify, alpn=[ALPN_HTTP])
    given = {
        "Host": urlsplit(server.url).netloc,
        "User-Agent": f"wellhead-doctor/{VERSION}",
        **(fields or {}),
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
    try:
        async with asyncio.timeout(STEP_SECONDS), _stream(server, context) as (reader, writer):
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
            return _read_answer(await _read(reader))
    except ssl.SSLCertVerificationError as error:
        raise TrustError(f"{server.where}: {error.verify_message}") from error
    except TimeoutError as error:
        raise LinkError(f"{server.where}: no answer within {STEP_SECONDS:g} s") from error
    except OSError as error:
        raise LinkError(f"{server.where}: {why(error)}") from error
    except ValueError as error:
        raise LinkError(f"{server.where}: the answer is not HTTP") from error


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while len(data) < MAX_ANSWER_BYTES and (piece := await reader.read(16384)):
        data += piece
    return bytes(data)


def _read_answer(data: bytes) -> Answer:
    """
    Raises:
        ValueError: not an HTTP/1 answer.
    """
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1."):
        raise ValueError("no status line")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): text.strip() for name, _, text in pairs}, body)


async def _socket(server: Server) -> socket.socket:
    """A connection to the server, through the proxy where there is one.

    Raises:
        DialError: nobody there, or the proxy says no.
        SettingsError: the proxy variable is malformed.
    """
    proxy = server.proxy()
    if proxy is None:
        return await dial(server.hostname, server.port, timeout_seconds=STEP_SECONDS)
    sock = await dial(proxy.host, proxy.port, timeout_seconds=STEP_SECONDS)
    try:
        await asyncio.wait_for(open_tunnel(sock, proxy, server.where), STEP_SECONDS)
    except (OSError, TimeoutError) as error:
        sock.close()
        raise DialError(f"proxy {proxy.host}:{proxy.port}: {_words(error)}") from error
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def _stream(
    server: Server, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    sock = await _socket(server)
    name = server.hostname if context is not None else None
    try:
        async with asyncio.timeout(STEP_SECONDS):
            reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {STEP_SECONDS:g} s"
    return why(error) if isinstance(error, OSError) else str(error)
