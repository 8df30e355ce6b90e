"""How much a host has to give, and what its sandboxes have been promised of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wellhead.errors import HostBusy, HostInvalid
from wellhead.host.runtime.runtime import SandboxSpec
from wellhead.net.loop import memory_limit

MEMORY_PART = 0.75
SANDBOXES_MAX = 200
VCPUS_MIN = 0.1
MEMORY_MB_MIN = 64
DISK_MB_MIN = 64
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most that one sandbox may have; least is what it needs to be there."""

    vcpus: float = 8.0
    memory_mb: int = 16384
    disk_mb: int = 51200
    pids: int = 1024

    def check(self, vcpus: float, memory_mb: int, disk_mb: int) -> None:
        """
        Raises:
            HostInvalid: one of them is out of its bounds.
        """
        for what, given, least, most in (
            ("vcpus", vcpus, VCPUS_MIN, self.vcpus),
            ("memory_mb", memory_mb, MEMORY_MB_MIN, self.memory_mb),
            ("disk_mb", disk_mb, DISK_MB_MIN, self.disk_mb),
        ):
            if not least <= given <= most:
                raise HostInvalid(f"{what} must be {least:g} to {most:g}, not {given:g}")


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Capacity:
    """CPUs, MiB and a number of sandboxes: all there is, or what was promised of it.

    CPUs and disk may be promised several times over: nobody has more of a CPU than its part, and a disk
    is filled as it is written to. How often is the control plane's affair.
    """

    vcpus: float
    memory_mb: int
    disk_mb: int
    sandboxes: int

    @classmethod
    def of_machine(cls, directory: Path, memory_mb: int = 0, sandboxes: int = SANDBOXES_MAX) -> Capacity:
        """What this machine has for sandboxes, with disks under ``directory``.

        ``memory_mb`` 0: a part of the machine's.
        """
        return cls(
            vcpus=float(os.cpu_count() or 1),
            memory_mb=memory_mb or int(MEMORY_PART * memory_limit() / _MIB),
            disk_mb=shutil.disk_usage(directory).total // _MIB,
            sandboxes=sandboxes,
        )

    @classmethod
    def of_specs(cls, specs: Iterable[SandboxSpec]) -> Capacity:
        """What these were promised, together."""
        promised = list(specs)
        return cls(
            vcpus=sum(spec.vcpus for spec in promised),
            memory_mb=sum(spec.memory_mb for spec in promised),
            disk_mb=sum(spec.disk_mb for spec in promised),
            sandboxes=len(promised),
        )

    def admit(self, used: Capacity, spec: SandboxSpec) -> None:
        """
        Raises:
            HostInvalid: more is asked for than there ever is.
            HostBusy: there is no room now.
        """
        if used.sandboxes >= self.sandboxes:
            raise HostBusy(f"this host has {used.sandboxes} sandboxes, at most {self.sandboxes} allowed")
        if spec.memory_mb > self.memory_mb:
            raise HostInvalid(f"memory of {spec.memory_mb} MiB, this host has {self.memory_mb} MiB")
        left = max(0, self.memory_mb - used.memory_mb)
        if spec.memory_mb > left:
            raise HostBusy(
                f"memory of {spec.memory_mb} MiB, this host has {left} MiB left of {self.memory_mb} MiB"
            )
