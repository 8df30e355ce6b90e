"""``wellhead http``: a local app on a public hostname, and a line per request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from wellhead import logs
from wellhead.agent.carriers import alpn_of
from wellhead.cli.attending import LinkOptions, attend
from wellhead.errors import InputError, LinkError
from wellhead.model.text import escape
from wellhead.net.upstream_address import UpstreamAddress, parse_upstream
from wellhead.net.upstream_dial import connect as dial
from wellhead.net.upstream_dial import upstream_contexts
from wellhead.wire.headers import HostPolicy

PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What ``wellhead http`` is told of the upstream, not yet checked."""

    upstream: str
    host_header: str
    upstream_http: str
    upstream_ca_file: Path | None
    verify_upstream: bool


def run_http(options: HttpOptions, link: LinkOptions) -> None:
    """Forward until a signal."""
    try:
        upstream = parse_upstream(options.upstream, options.upstream_http)
    except InputError as error:
        if meant := _meant(options.upstream):
            error.add_note(meant)
        raise
    HostPolicy(options.host_header, upstream)  # a wrong one is told before anything is dialled
    alpn_of(link.carrier)
    if not upstream.tls and (options.upstream_ca_file is not None or not options.verify_upstream):
        raise InputError(
            f"upstream {upstream} has no certificate to verify: write https://… where it has one"
        )
    logs.configure("error")  # what an agent has to say is told here in other words
    attend(
        options.upstream,
        str(upstream),
        link,
        lambda: probe(upstream, options.upstream_ca_file, verify=options.verify_upstream),
        host_header=options.host_header,
        upstream_http=options.upstream_http,
        verify_upstream=options.verify_upstream,
        upstream_ca_file=options.upstream_ca_file,
    )


def _meant(upstream: str) -> str | None:
    """The command for what is no address."""
    if upstream and Path(upstream).is_dir():
        return f"`wellhead serve {escape(upstream)}` serves the files of a directory"
    module, colon, name = upstream.partition(":")
    if colon and all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        return f"`wellhead run {upstream}` runs a Python application"
    return None


async def probe(
    upstream: UpstreamAddress, ca_file: Path | None = None, *, verify: bool = True
) -> LinkError | None:
    """Why no request would get through to the upstream; None where it would.

    Raises:
        SettingsError: the CA file cannot be read.
    """
    contexts = upstream_contexts(upstream, ca_file=ca_file, verify=verify)
    try:
        transport = await dial(asyncio.Protocol, upstream, contexts.http2 or contexts.http1, PROBE_SECONDS)
    except LinkError as error:
        return error
    transport.close()
    return None
