"""A real browser for system tests: Debian's Chromium without a window, driven by Playwright.

It trusts the server's local authority the way a person makes it do so: through the NSS database of
its user, where ``certutil`` is there to write one. Elsewhere only the keys of the named certificates
are let through; every other certificate fault still stops a page.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import BrowserContext, sync_playwright

from tests.kit.programs import Edge

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@contextlib.contextmanager
def browsing(
    edge: Edge, profile: Path, hostname: str, *extra: str, executable: Path = CHROMIUM
) -> Iterator[BrowserContext]:
    """A browser with a fresh profile that trusts ``edge``; ``hostname`` is one that it serves.

    ``extra`` are further flags of Chromium's; ``executable`` is what it is started by.
    """
    home = profile / "home"
    home.mkdir(parents=True)
    flags = [*FLAGS, *extra]
    if (certutil := shutil.which("certutil")) is not None:
        _import(certutil, edge.ca, home)
    else:
        flags.append(f"--ignore-certificate-errors-spki-list={_key_hash(edge, hostname)}")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile / "data"),
            executable_path=executable,
            headless=True,
            args=flags,
            env={**os.environ, "HOME": str(home)},
            viewport={"width": 1280, "height": 800},
        )
        try:
            yield context
        finally:
            context.close()


def http2_heads(log: Path) -> list[str]:
    """The request heads that a browser sent in HTTP/2, a line each, by its own net log.

    It has to be started with the flags of ``logging_net``.
    """
    text = log.read_text(errors="replace")
    constants = json.loads(text[: text.index('"events"')].rstrip().rstrip(",") + "}")["constants"]
    kind = f'"type":{constants["logEventTypes"]["HTTP2_SESSION_SEND_HEADERS"]}'
    return [line for line in text.splitlines() if kind in line]


def logging_net(log: Path) -> tuple[str, str]:
    """The flags with which a browser writes its net log."""
    return f"--log-net-log={log}", "--net-log-capture-mode=IncludeSensitive"


def _import(certutil: str, ca: Path, home: Path) -> None:
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True, mode=0o700)
    where = ["-d", f"sql:{database}"]
    add = ["-A", "-n", "wellhead", "-t", "C,,", "-i", str(ca)]
    for arguments in (["-N", "--empty-password"], add):
        subprocess.run([certutil, *where, *arguments], check=True, capture_output=True, timeout=20)


def _key_hash(edge: Edge, hostname: str) -> str:
    """What Chromium calls the SPKI hash of the certificate that is shown for a name."""
    context = edge.trust()
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname=hostname) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    key = x509.load_der_x509_certificate(shown).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()
