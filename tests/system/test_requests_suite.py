"""The tests of requests against httpbin, straight and through the tunnel: with the same outcomes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.kit.outsiders import KIT, Outsider, published, wsgi_server
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.needs("unshare")]

DIFFERENCES = {
    "test_proxy_authorization_preserved_on_request": "a field for a proxy on the way ends at the edge",
    "test_request_with_bytestring_host": "its Host is another site's, not this tunnel's",
}
LEAST = 190  # tests that talk to httpbin


@dataclass(frozen=True)
class Httpbin:
    """The addresses of one httpbin, by scheme, and a visitor who knows them all."""

    visitor: Outsider
    tests: Path
    direct: dict[str, str]
    tunnel: dict[str, str]

    def outcomes(self, scheme: str, addresses: dict[str, str]) -> dict[str, str]:
        """The tests' outcomes by name, with ``scheme`` where they leave it open."""
        written = self.visitor.directory / "outcomes.json"
        written.unlink(missing_ok=True)
        env = {
            "PYTHONPATH": str(KIT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "SUITE_OUTCOMES": str(written),
            "SUITE_HTTP": addresses[scheme],
            "SUITE_HTTPS": addresses["https"],
            "SUITE_CA": str(self.visitor.edge.ca),
        }
        self.visitor.run(
            *(sys.executable, "-m", "pytest", "-q", "-p", "requests_plugin", "-p", "pytest_mock"),
            *("-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "tests/test_requests.py"),
            cwd=self.tests, env=env, fine=False,
        )  # fmt: skip
        found: dict[str, str] = json.loads(written.read_text())
        return {test.rpartition("::")[2]: outcome for test, outcome in found.items()}


@pytest.fixture
def httpbin(house: House, tmp_path: Path) -> Iterator[Httpbin]:
    unpacked, tests = published("httpbin", tmp_path / "httpbin"), published("requests", tmp_path)
    assert tests.name == f"requests-{version('requests')}"
    with (
        wsgi_server("httpbin", unpacked, house.port) as plain,
        wsgi_server("httpbin", unpacked, tls=house.edge) as tls,
    ):
        direct = {"http": f"http://127.0.0.1:{plain}", "https": f"https://127.0.0.1:{tls}"}
        tunnel = {"http": house.agent.plain_url, "https": house.agent.url}
        yield Httpbin(Outsider(house.edge, house.agent, tmp_path), tests, direct, tunnel)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_tunnel_changes_no_outcome(httpbin: Httpbin, scheme: str) -> None:
    straight = httpbin.outcomes(scheme, httpbin.direct)
    through = httpbin.outcomes(scheme, httpbin.tunnel)
    assert len(straight) >= LEAST
    differing = {
        test: (straight.get(test), through.get(test))
        for test in straight.keys() | through.keys()
        if straight.get(test) != through.get(test)
    }
    assert differing.keys() == DIFFERENCES.keys(), json.dumps(differing, indent=1)
