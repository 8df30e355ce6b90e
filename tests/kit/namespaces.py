"""Two network namespaces joined by a cable that can be cut without either end noticing. For root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


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


@contextlib.contextmanager
def inside(side: Side) -> Iterator[None]:
    """This thread's new sockets belong to that end, until the block ends; those that there are stay."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{side.name}") as there:
        assert setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert setns(home.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


def lose(ends: Sequence[Side], percent: int) -> None:
    """From now on so many of the packets that reach either end are lost, by chance."""
    for end in ends:
        rules = (
            "add table inet loss\ndelete table inet loss\nadd table inet loss\n"
            "add chain inet loss input { type filter hook input priority 0; }\n"
            f'add rule inet loss input iifname "{end.device}" numgen random mod 100 < {percent} drop'
        )
        _checked([*end.prefix, "nft", rules])


def clamp(ends: Sequence[Side], rate: str) -> None:
    """Let each end send at most ``rate`` (``1mbit``), with a queue of 50 ms before it."""
    for end in ends:
        shape = ["root", "tbf", "rate", rate, "burst", "4kb", "latency", "50ms"]
        _checked(["tc", "-n", end.name, "qdisc", "replace", "dev", end.device, *shape])


def lookups(side: Side, *servers: str) -> contextlib.AbstractContextManager[None]:
    """Programs that are started at that end ask these name servers."""
    return _resolv_conf(side, "".join(f"nameserver {server}\n" for server in servers))


@contextlib.contextmanager
def _resolv_conf(side: Side, text: str) -> Iterator[None]:
    # `ip netns exec` puts this file in the place of /etc/resolv.conf. Source: ip-netns(8)
    directory = Path("/etc/netns") / side.name
    directory.mkdir(parents=True)
    (directory / "resolv.conf").write_text(text + "options timeout:15 attempts:2\n")
    try:
        yield
    finally:
        shutil.rmtree(directory)


def _checked(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
