"""A pytest plugin for a run in parts: the last one tells, in its own summary, what all of them found.

A test that failed and is done once more in a later part counts as it ended there; where it passed, its
failure before stays in the summary as ``flaky``.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

BAD = ("failed", "error")
IN_MEMORY = "node"  # what pytest-xdist adds to a report and no file can hold: the worker's connection


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--leave-reports", type=Path, help="a new file, for a later part")
    parser.addoption(
        "--add-reports", type=Path, action="append", default=[], help="what an earlier part left"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or terminal is None:  # nobody reads what a worker says
        return
    if (file := config.getoption("leave_reports")) is not None:
        told = [
            (outcome, _plain(config, report))
            for outcome, reports in terminal.stats.items()
            for report in reports
            if isinstance(report, pytest.TestReport | pytest.CollectReport)
        ]
        file.write_bytes(pickle.dumps(told))
    again = {item.nodeid for item in session.items} if config.getoption("add_reports") else set()
    for file in config.getoption("add_reports"):
        for outcome, data in pickle.loads(file.read_bytes()):
            report = config.hook.pytest_report_from_serializable(config=config, data=data)
            counts_as = "flaky" if outcome in BAD and report.nodeid in again else outcome
            terminal.stats.setdefault(counts_as, []).append(report)


def failed(file: Path) -> list[str]:
    """The tests that failed, of a part that left its reports there."""
    told = pickle.loads(file.read_bytes())
    return list(dict.fromkeys(data["nodeid"] for outcome, data in told if outcome in BAD))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What passed only when it was done again is named."""
    for report in terminalreporter.stats.get("flaky", []):
        terminalreporter.write_line(f"FLAKY {report.nodeid}: failed at first, done once more")


def _plain(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> dict[str, Any]:
    data: dict[str, Any] = config.hook.pytest_report_to_serializable(config=config, report=report)
    data.pop(IN_MEMORY, None)
    return data
