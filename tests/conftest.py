"""What every test stands on: a clean environment, and programs that must not be missing unseen."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from typing import Any

import hypothesis
import pytest

# How long an example takes says what else the machine does; a test that hangs has pytest's clock.
hypothesis.settings.register_profile("wellhead", deadline=None)
hypothesis.settings.load_profile("wellhead")

# A shell has what it starts in the background ignore SIGINT, and programs of tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="of the random schedules; printed by a test that has one")
    parser.addoption("--chaos-seconds", type=float, default=60.0, help="how long faults are injected")
    parser.addoption("--load-seconds", type=float, help="how long loads last; a few seconds each unless told")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting, profile or proxy of whoever runs the tests gets into them."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("WELLHEAD_") or name.lower().endswith("_proxy"):
            patch.delenv(name)
    patch.setenv("WELLHEAD_HOME", str(tmp_path_factory.mktemp("home") / ".wellhead"))
    patch.setenv("PATH", f"{os.environ.get('PATH', '')}:{SBIN}")  # nginx and sshd live there
    yield
    patch.undo()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs("nginx")``: without the program a test is skipped here, and fails in CI."""
    needed = [name for marker in item.iter_markers("needs") for name in marker.args]
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    if missing := [name for name in needed if shutil.which(name, path=path) is None]:
        sentence = f"needs {', '.join(missing)}, which `make test` installs when it runs as root"
        if os.environ.get("CI", "").lower() in ("", "0", "false"):
            pytest.skip(sentence)
        pytest.fail(sentence, pytrace=False)


def pytest_collection_finish() -> None:
    """What was imported and collected stays for good: the collector need not look through it again.

    A pass over it takes long enough to starve whatever a test runs in its own loop.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A report travels as UTF-8, whatever a test printed or logged."""
    return _encodable((yield))


def _encodable(data: Any) -> Any:
    match data:
        case str():
            return data.encode(errors="backslashreplace").decode()
        case dict():
            return {_encodable(key): _encodable(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(_encodable(each) for each in data)
    return data
