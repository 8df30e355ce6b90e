"""A network namespace for a host of sandboxes, so that a test never changes the machine's. For root."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.kit.namespaces import ip
from wellhead.host.runtime.network import entered

_count = itertools.count()


@contextlib.contextmanager
def host_network() -> Iterator[str]:
    """The name of a namespace with nothing but a loopback: for ``nsenter --net=/run/netns/{name}``.

    Not for ``ip netns exec``, which hides the control groups. It is gone afterwards.
    """
    name = f"wh-host-{os.getpid()}-{next(_count)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@contextlib.contextmanager
def in_host_network() -> Iterator[str]:
    """The same, and this thread, with what it starts, is in it until the block ends."""
    with host_network() as name, entered(str(Path("/run/netns", name))):
        yield name
