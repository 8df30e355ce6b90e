"""Pebble, a real ACME authority for tests, and the DNS that it asks. Both end with whoever began them.

No pauses between its looks and no refused nonces, unless a test asks for them.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.kit.certs import self_signed
from tests.kit.programs import Program, quiet_port


class ChallengeDns(Program):
    """Answers every A query with 127.0.0.1, and TXT queries with what was put there."""

    def __init__(self) -> None:
        self.port, self.management = quiet_port(), quiet_port()
        super().__init__(
            [
                "pebble-challtestsrv",
                *("-dns01", f"127.0.0.1:{self.port}", "-management", f"127.0.0.1:{self.management}"),
                *("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""),
            ]
        )
        self.line("Starting management server")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.management}"

    def questions(self, hostname: str) -> list[str]:
        """Types of the questions that were asked about a name, as numbers."""
        body = json.dumps({"host": hostname}).encode()
        with urllib.request.urlopen(f"{self.url}/dns-request-history", body, timeout=10) as answer:
            return [str(one["Question"]["Qtype"]) for one in json.load(answer)]


class Pebble(Program):
    """``http`` and ``tls`` are the ports of 127.0.0.1 where it looks for proofs."""

    def __init__(
        self,
        home: Path,
        *,
        http: int = 0,
        tls: int = 0,
        dns: int | None = None,
        life_seconds: int | None = None,
        accounts: dict[str, str] | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``accounts``: external ones (key id -> MAC key), of which one is needed then."""
        home.mkdir(exist_ok=True)
        key, certificate = self_signed("localhost", "127.0.0.1")
        (home / "key.pem").write_bytes(key)
        self.ca_file = home / "pebble.pem"
        self.ca_file.write_bytes(certificate)
        self.port, self.management = port or quiet_port(), quiet_port()
        settings: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.ca_file),
            "privateKey": str(home / "key.pem"),
            "httpPort": http or quiet_port(),
            "tlsPort": tls or quiet_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": accounts is not None,
            "externalAccountMACKeys": accounts or {},
        }
        if life_seconds is not None:
            settings["certificateValidityPeriod"] = life_seconds
        (home / "pebble.json").write_text(json.dumps({"pebble": settings}))
        asked = ["-dnsserver", f"127.0.0.1:{dns}"] if dns else []
        quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        super().__init__(
            ["pebble", "-config", str(home / "pebble.json"), *asked],
            {**os.environ, **quick, **(environment or {})},
        )
        self.line("ACME directory available at")

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    @property
    def orders(self) -> int:
        """How many orders were made."""
        return sum("Added order" in line for line in self.lines)

    def root(self) -> str:
        """The authority of its certificates, PEM."""
        return self._management("roots/0")

    def status(self, serial: str) -> str:
        """``Valid`` or ``Revoked``."""
        said = self._management(f"cert-status-by-serial/{serial}")
        found = re.search(r'"Status": ?"(\w+)"', said)
        assert found is not None, said
        return found[1]

    def _management(self, path: str) -> str:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        url = f"https://localhost:{self.management}/{path}"
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            text: str = answer.read().decode()
            return text
