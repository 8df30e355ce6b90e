"""Servers with a host of their own, for tests of sandboxes that are really isolated."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kit.programs import Edge

START_SECONDS = 90.0  # templates are built at the first start
NEEDED = [
    pytest.mark.system,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="isolated sandboxes need root on Linux"
    ),
]


@contextlib.contextmanager
def hosted(
    home: Path, *flags: str, settings: Mapping[str, object] | None = None, runtime: str = "namespace"
) -> Iterator[Edge]:
    """``wellhead up --with-host``; its sandboxes end with it."""
    given = {"host_runtime": runtime, "host_egress": "none", "host_keep_sandboxes": False, **(settings or {})}
    edge = Edge(home, "--with-host", *flags, settings=given, wait=False)
    with edge:
        edge.ready(START_SECONDS)
        yield edge
        if edge.process.poll() is None:
            edge.stop()
