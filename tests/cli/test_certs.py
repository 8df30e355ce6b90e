"""``wellhead certs`` against a running server, each verb as a person types it."""

from __future__ import annotations

import json

from tests.cli.conftest import Type
from tests.kit.csr import pem_for
from wellhead.cli.exit import ExitCode
from wellhead.client import Client


def test_certificates_are_listed_and_renewed_by_the_tunnels_name(server: Client, typed: Type) -> None:
    typed("tunnels", "create", "with-cert", "--tls-mode", "passthrough")
    typed("tunnels", "create", "without-cert", "--tls-mode", "passthrough")
    tunnel = server.tunnels.find("with-cert")
    assert tunnel is not None
    server.tunnels.sign_csr(tunnel.id, pem_for(tunnel.public_host))
    titles, row = typed("certs", "list", "with-cert").splitlines()
    assert titles.split() == ["HOSTNAME", "STATUS", "ISSUER", "DAYS", "LEFT", "EXPIRES", "SERIAL"]
    hostname, status, issuer, days, *_ = row.split()
    assert (hostname, status, issuer) == (tunnel.public_host, "issued", "local") and 89 < float(days) <= 90
    assert "certificate ends" in typed("tunnels", "get", "with-cert")

    (listed,) = json.loads(typed("certs", "list", "with-cert", "--json"))
    assert typed("certs", "renew", "with-cert").startswith(f"the agent of {tunnel.public_host} renews")
    renewed = json.loads(typed("certs", "renew", tunnel.id, "--json"))
    assert renewed["id"] == listed["id"] and renewed["renew_at"] < listed["renew_at"]
    assert typed("certs", "list", "without-cert", "--quiet") == ""
    typed("tunnels", "delete", "with-cert", "--yes")
    typed("tunnels", "force-delete", "with-cert", "--yes")
    revoked = [row.split() for row in typed("certs", "list").splitlines()]
    assert [tunnel.public_host, "revoked", "local", "-"] in [row[:4] for row in revoked]
    assert "no certificate" in typed("certs", "renew", "without-cert", code=ExitCode.NOT_FOUND)
