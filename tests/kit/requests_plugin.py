"""A pytest plugin for the tests of requests: its httpbin is elsewhere, and each outcome is written down.

It stands in for pytest-httpbin, which starts a server of its own. ``SUITE_HTTP`` and ``SUITE_HTTPS`` are
the public addresses, ``SUITE_CA`` is the file of the authority behind the second, ``SUITE_OUTCOMES`` the
file that gets one JSON object: outcome and last line of the failure by test id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests.adapters
import requests.utils

outcomes: dict[str, str] = {}


@dataclass(frozen=True)
class Address:
    url: str


def pytest_configure() -> None:
    """What no environment reaches, a session that sends by itself, trusts the authority too."""
    for module in (requests.adapters, requests.utils):
        setattr(module, "DEFAULT_CA_BUNDLE_PATH", os.environ["SUITE_CA"])  # noqa: B010


@pytest.fixture(scope="session")
def httpbin() -> Address:
    return Address(os.environ["SUITE_HTTP"])


@pytest.fixture(scope="session")
def httpbin_secure() -> Address:
    return Address(os.environ["SUITE_HTTPS"])


@pytest.fixture
def httpbin_ca_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.environ["SUITE_CA"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only what talks to httpbin says anything about a tunnel."""
    items[:] = [item for item in items if {"httpbin", "httpbin_secure"} & set(_fixtures(item))]


def _fixtures(item: pytest.Item) -> Iterable[str]:
    return getattr(item, "fixturenames", ())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        last = report.longreprtext.strip().splitlines()[-1:]
        # One that may fail depends on how many bytes a read happens to bring.
        outcome = "either" if hasattr(report, "wasxfail") else report.outcome
        outcomes[report.nodeid] = outcome if outcome != "failed" else " ".join([outcome, *last])


def pytest_sessionfinish() -> None:
    Path(os.environ["SUITE_OUTCOMES"]).write_text(json.dumps(outcomes))
