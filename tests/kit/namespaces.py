"""Two network namespaces joined by a cable that can be cut without either end noticing. For root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """One end: ``prefix`` before a command runs it there."""

    name: str
    address: str
    device: str
    peer: str  # the other end's address

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str) -> str:
        return ip("-n", self.name, *command)


@contextlib.contextmanager
def cable() -> Iterator[tuple[Side, Side]]:
    """The two ends; both namespaces are gone afterwards."""
    tag = f"{os.getpid() % 100_000}"
    ends = (
        Side(f"wh-a-{tag}", "10.213.0.1", f"wa{tag}", "10.213.0.2"),
        Side(f"wh-b-{tag}", "10.213.0.2", f"wb{tag}", "10.213.0.1"),
    )
    made = []
    try:
        for end in ends:
            ip("netns", "add", end.name)
            made.append(end.name)
            end.run("link", "set", "lo", "up")
        ip(
            "link", "add", ends[0].device, "netns", ends[0].name,
            "type", "veth", "peer", "name", ends[1].device, "netns", ends[1].name,
        )  # fmt: skip
        for end in ends:
            end.run("address", "add", f"{end.address}/24", "dev", end.device)
            end.run("link", "set", end.device, "up")
        yield ends
    finally:
        for name in made:
            ip("netns", "delete", name)


def cut(ends: Sequence[Side]) -> None:
    """From now on every packet is lost in silence: both ends write to a station that is not there."""
    for end in ends:
        end.run(
            "neighbour", "replace", end.peer, "lladdr", "02:00:00:00:00:99", "dev", end.device,
            "nud", "permanent",
        )  # fmt: skip


def mend(ends: Sequence[Side]) -> None:
    """Packets arrive again."""
    for end in ends:
        end.run("neighbour", "delete", end.peer, "dev", end.device)


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout
