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

CPU_SHARES = 64  # sandboxes to a CPU: none has more of it than its part, and they mostly wait
DISK_SHARES = 20  # a disk is filled as it is written to
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
    """CPUs, MiB and a number of sandboxes: all that may be promised, or what was."""

    vcpus: float
    memory_mb: int
    disk_mb: int
    sandboxes: int

    @classmethod
    def of_machine(cls, directory: Path, memory_mb: int = 0, sandboxes: int = SANDBOXES_MAX) -> Capacity:
        """What may be promised on this machine, with disks under ``directory``.

        ``memory_mb`` 0: a part of the machine's.
        """
        return cls(
            vcpus=float(CPU_SHARES * (os.cpu_count() or 1)),
            memory_mb=memory_mb or int(MEMORY_PART * memory_limit() / _MIB),
            disk_mb=DISK_SHARES * (shutil.disk_usage(directory).total // _MIB),
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
        for what, unit, asked, taken, most in (
            ("vcpus", "", spec.vcpus, used.vcpus, self.vcpus),
            ("memory", " MiB", spec.memory_mb, used.memory_mb, self.memory_mb),
            ("disk", " MiB", spec.disk_mb, used.disk_mb, self.disk_mb),
        ):
            if asked > most:
                raise HostInvalid(f"{what} of {asked:g}{unit}, this host has {most:g}{unit}")
            left = max(0, most - taken)
            if asked > left:
                raise HostBusy(
                    f"{what} of {asked:g}{unit}, this host has {left:g}{unit} left of {most:g}{unit}"
                )
