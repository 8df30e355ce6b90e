"""``wellhead doctor``: what would keep ``up`` and ``http`` from working here, and what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from wellhead.cli import doctor_machine as machine
from wellhead.cli import doctor_server as far
from wellhead.cli.doctor_certificates import chains, check_certificates
from wellhead.cli.doctor_finding import Finding, Verdict, failed, skipped, warning
from wellhead.cli.doctor_server import Server
from wellhead.cli.exit import ExitCode
from wellhead.cli.output import tell, wants_colour
from wellhead.cli.progress import progress
from wellhead.errors import LocalStateError, SettingsError
from wellhead.model.access import Secret
from wellhead.model.names import base_url, is_loopback
from wellhead.net import loop
from wellhead.profile import Profile
from wellhead.settings import home

_COLOURS = {
    Verdict.OK: "\x1b[32m",
    Verdict.WARNING: "\x1b[33m",
    Verdict.FAILED: "\x1b[31m",
    Verdict.SKIPPED: "\x1b[2m",
}
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """The command line of ``wellhead doctor``."""

    url: str | None
    api_key: str | None
    ca_file: Path | None
    config: Path | None
    as_json: bool
    quiet: bool = False  # tell only what is not as it should be


def run_doctor(options: DoctorOptions) -> int:
    """Look at everything and tell it as it is found; the exit code is 1 where something failed.

    Raises:
        InputError: ``--url`` is none.
    """
    if options.url is not None:
        base_url(options.url)
    findings = loop.run(_tell(options))
    if options.as_json:
        good = not any(finding.verdict is Verdict.FAILED for finding in findings)
        tell(json.dumps({"ok": good, "checks": [_record(finding) for finding in findings]}, indent=2))
    return exit_code(findings)


def exit_code(findings: list[Finding]) -> int:
    return ExitCode.FAILED if any(f.verdict is Verdict.FAILED for f in findings) else ExitCode.OK


async def _tell(options: DoctorOptions) -> list[Finding]:
    findings: list[Finding] = []
    coming = EXAMINER.get()(options)
    while True:
        with progress("looking"):
            finding = await anext(coming, None)
        if finding is None:
            break
        findings.append(finding)
        if not options.as_json and (not options.quiet or finding.remedy):
            tell(format_finding(finding, colour=wants_colour()))
    if not options.as_json and not options.quiet:
        tell(_summary(findings))
    return findings


async def examine(options: DoctorOptions) -> AsyncIterator[Finding]:
    """Every finding, as it is made; nothing takes longer than its own deadline."""
    yield machine.check_home(home())
    yield machine.check_files()
    server, key, complaint = _whom(options)
    local = server is None or is_loopback(server.hostname)
    settings = machine.server_settings(options.config)
    if isinstance(settings, Finding):
        yield settings
    else:
        if settings.domain == "localhost":
            yield machine.check_localhost()
        yield machine.check_port("https", settings.https, needed=local)
        yield machine.check_port("http", settings.http, needed=local)
        if (certificates := machine.check_certificates(settings)) is not None:
            yield certificates
    if complaint is not None:
        yield complaint
    if server is not None:
        async for finding in examine_server(server, key):
            yield finding


EXAMINER: ContextVar[Callable[[DoctorOptions], AsyncIterator[Finding]]] = ContextVar(
    "examiner", default=examine
)
"""What finds: the reference page has one that makes its findings up."""


async def examine_server(server: Server, key: Secret | None) -> AsyncIterator[Finding]:
    """What lies behind a failure is not looked at, but for what may explain it."""
    yield machine.check_proxy(server.hostname, server.port, server.environ)
    yield await far.check_name(server)
    reach = await far.check_reach(server)
    yield reach
    if reach.verdict is not Verdict.OK:
        for check in ("trust", "clock", "version", "agents", "key"):
            yield skipped(check, f"{server.where} cannot be reached")
        return
    trust = await far.check_trust(server)
    yield trust
    trusted = trust.verdict in (Verdict.OK, Verdict.WARNING)
    yield await far.check_clock(server)
    yield await far.check_version(server, trusted=trusted)
    if trusted:
        yield await far.check_carrier(server)
        yield await far.check_key(server, key)
        async for finding in check_certificates(server, key, chains(home())):
            yield finding
    else:
        for check in ("agents", "key"):
            yield skipped(check, "the certificate is not trusted, so nothing secret is sent")


def _whom(options: DoctorOptions) -> tuple[Server | None, Secret | None, Finding | None]:
    """The server and the key that other commands would take, or why there is none."""
    try:
        profile = Profile.load()
        url = options.url or os.environ.get("WELLHEAD_URL") or profile.url
        if url is None:
            remedy = "start one here with `wellhead up`, or give --url or WELLHEAD_URL"
            return None, None, warning("server", "no server is known", remedy)
        key = Secret(options.api_key) if options.api_key else None
        try:
            found = profile.resolve(options.url, key, options.ca_file)
        except SettingsError:
            # Without a key everything else can still be looked at.
            found = profile.resolve(options.url, Secret(""), options.ca_file)
    except (LocalStateError, SettingsError, ValueError) as error:
        return None, None, failed("server", str(error), "correct it, or move it away")
    return Server(found.url, found.ca_file), found.api_key or None, None


def format_finding(finding: Finding, *, colour: bool) -> str:
    """``ok    name      …``, and on a line of its own what to do."""
    mark = f"{finding.verdict.value:<5}"
    if colour:
        mark = f"{_COLOURS[finding.verdict]}{mark}{_RESET}"
    line = f"{mark} {finding.check:<10} {finding.found}"
    return f"{line}\n{'':<16} -> {finding.remedy}" if finding.remedy else line


def _summary(findings: list[Finding]) -> str:
    counts = {verdict: sum(f.verdict is verdict for f in findings) for verdict in Verdict}
    if not counts[Verdict.FAILED] and not counts[Verdict.WARNING]:
        return "everything is as it should be"
    return f"{counts[Verdict.FAILED]} to put right, {counts[Verdict.WARNING]} to know of"


def _record(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "verdict": finding.verdict.value,
        "found": finding.found,
        "remedy": finding.remedy,
    }
