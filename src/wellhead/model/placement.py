"""Where a sandbox goes: to the host that would be least loaded with it. Pure arithmetic.

Source: wrenn-sandboxes, "1.2 Host registration and trust", scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wellhead.model.sandboxes import HostId, SandboxStatus

PAUSED_MEMORY = 0.5  # of a paused sandbox's memory that counts: frozen pages can be swapped out
PAUSED_VCPUS = 0.0  # frozen processes do not run


@dataclass(frozen=True, slots=True)
class Resources:
    """CPUs, MiB, MiB, and how many sandboxes."""

    vcpus: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0
    sandboxes: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.vcpus + other.vcpus,
            self.memory_mb + other.memory_mb,
            self.disk_mb + other.disk_mb,
            self.sandboxes + other.sandboxes,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that may take a sandbox: what it has for sandboxes in all, and what it has given."""

    host: HostId
    capacity: Resources
    reserved: Resources


def reserved(status: SandboxStatus, wanted: Resources) -> Resources:
    """What a live sandbox takes of its host."""
    if status is SandboxStatus.PAUSED:
        return replace(wanted, vcpus=wanted.vcpus * PAUSED_VCPUS, memory_mb=wanted.memory_mb * PAUSED_MEMORY)
    return wanted


def tightest(capacity: Resources, taken: Resources) -> float:
    """How much of the scarcest resource is taken, 1.0 being all of it."""
    pairs = (
        (taken.vcpus, capacity.vcpus),
        (taken.memory_mb, capacity.memory_mb),
        (taken.disk_mb, capacity.disk_mb),
        (taken.sandboxes, capacity.sandboxes),
    )
    return max(want / have if have > 0 else float("inf") for want, have in pairs)


def choose(candidates: Iterable[Candidate], wanted: Resources) -> HostId | None:
    """The host whose scarcest resource would be least taken with it; None: it fits nowhere."""
    loads = [(tightest(each.capacity, each.reserved + wanted), each.host) for each in candidates]
    load, host = min(loads, default=(float("inf"), None))
    return host if load <= 1.0 else None
