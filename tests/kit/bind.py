"""BIND, a real name server for tests, on a port of loopback; it takes DNS updates that a TSIG key signs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.conftest import SBIN
from tests.kit.programs import Program

KEY_NAME, SECRET = "acme-key", "c2VjcmV0IG9mIGEgdGVzdCwgMzIgYnl0ZXMgbG9uZyE="
PRIMARY, SECONDARY = "127.0.0.1", "::1"


class NameServer(Program):
    """Answers for ``zone`` at ``address:port``; the secondary follows the primary, at the same port.

    ``_acme-challenge.aliased`` leads to ``proofs``.

    A secondary that is ``deaf`` transfers the zone once and hears of no change.
    """

    def __init__(
        self,
        home: Path,
        zone: str,
        port: int,
        *,
        address: str = PRIMARY,
        deaf: bool = False,
        alone: bool = True,
    ) -> None:
        home.mkdir()
        self.address, self.port, self.zone = address, port, zone
        if address == PRIMARY:
            (home / "zone").write_text(_zone(zone, alone))
            follows = f"notify explicit; also-notify {{ {SECONDARY} port {port}; }}; notify-delay 0;"
            names = (f"_acme-challenge.{zone}", f"proofs.{zone}")
            allowed = "".join(f"grant {KEY_NAME} name {name}. TXT; " for name in names)
            kind = f'type primary; file "zone"; {"notify no;" if alone else follows}'
            kind += f" update-policy {{ {allowed} }};"
        else:
            kind = f'type secondary; file "copy"; primaries {{ {PRIMARY} port {port}; }};' + (
                f" allow-notify {{ {'none' if deaf else SECONDARY}; }};"
            )
        listens = f"listen-on port {port} {{ {PRIMARY}; }}; listen-on-v6 {{ none; }};"
        if address == SECONDARY:
            listens = f"listen-on {{ none; }}; listen-on-v6 port {port} {{ {SECONDARY}; }};"
        (home / "named.conf").write_text(
            f"""
            options {{
                directory "{home}"; pid-file none; session-keyfile "{home}/session.key";
                {listens}
                recursion no; allow-transfer {{ any; }}; dnssec-validation no; serial-query-rate 1000;
                startup-notify-rate 1000; notify-rate 1000;
            }};
            controls {{ }};
            key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
            zone "{zone}" {{ {kind} }};
            """
        )
        named = shutil.which("named", path=f"{os.environ.get('PATH', '')}:{SBIN}") or "named"
        super().__init__([named, "-g", "-c", str(home / "named.conf"), "-n", "1"])
        self.line("running$")
        if address != PRIMARY:
            self.line(rf"zone {zone}/IN: transferred serial")


def _zone(zone: str, alone: bool) -> str:
    records = [
        f"$ORIGIN {zone}.",
        "$TTL 60",
        "@ IN SOA ns1 hostmaster 1 3600 600 86400 60",
        "@ IN NS ns1",
        f"ns1 IN A {PRIMARY}",
        "@ IN A 127.0.0.1",
        "* IN A 127.0.0.1",
        "_acme-challenge.aliased IN CNAME two",
        "two IN CNAME proofs",
        "_acme-challenge.round IN CNAME _acme-challenge.round",
    ]
    if not alone:
        records += ["@ IN NS ns2", f"ns2 IN AAAA {SECONDARY}"]
    return "\n".join(records) + "\n"
