"""Sandboxes of Linux namespaces: for hosts that run as root.

A sandbox is a process tree in namespaces of its own (mount, pid, network, ipc, uts, cgroup, user), with a
root put together from its template and a disk of its own, control groups that bound it, and a link to the
machine. It has no parent here: it outlives this program, which finds it again by what it wrote down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wellhead.errors import HostError
from wellhead.host.cgroups import Cgroups, Hierarchies, Limits
from wellhead.host.disks import Disks
from wellhead.host.runtime import birth, layers, linux, processes, root, seccomp
from wellhead.host.runtime.hello import hello
from wellhead.host.runtime.inward import Inward
from wellhead.host.runtime.kept import Kept, KeptSandboxes, bind_guest
from wellhead.host.runtime.network import Network
from wellhead.host.runtime.nursery import Nursery
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template, Usage
from wellhead.host.runtime.terms import RuntimeTerms
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId

_log = Log("wellhead.host")

_HELLO_SECONDS = 15.0
_KILL_SECONDS = 10.0
_SHM_SHARE = 2  # /dev/shm holds at most half of the memory
_MIB = 1 << 20
_FIRST_ID = "first_id"  # notes in what is kept
_INWARD = "inward"  # its network leads to its loopback


class NamespaceRuntime:
    """``state``: the host's directory, on a file system of the machine's own (not a network's)."""

    name = "namespace"

    def __init__(self, state: Path, terms: RuntimeTerms | None = None) -> None:
        self._terms = terms or RuntimeTerms()
        self._state = state
        self._kept = KeptSandboxes(state)
        self._disks = Disks(state)
        self._nursery = Nursery(state, self._terms.first_id)
        self._network = Network(self._terms)
        self._cgroups = Cgroups(_hierarchies(), self._terms.cgroup_parent)
        self._inward = Inward()
        self._there: dict[SandboxId, Kept] = {}
        self._numbers_users = False  # whether sandboxes get numbers of their own for their users

    async def start(self) -> list[str]:
        if sys.platform != "linux":
            raise HostError(f"namespaces are Linux's: this machine runs {sys.platform}")
        if os.geteuid() != 0:
            raise HostError(f"the runtime 'namespace' needs root, and this is user {os.geteuid()}")
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = await asyncio.to_thread(self._prepare)
        await self._nursery.start()
        if why_not := self._nursery.why_not_numbered:
            told.append(
                f"users of sandboxes cannot have numbers of their own here ({why_not}): root in a sandbox has"
                " the number of the machine's root, but none of its powers"
            )
        self._numbers_users = bool(self._terms.first_id) and not why_not
        return told

    async def close(self) -> None:
        self._inward.close()
        await asyncio.to_thread(self._nursery.close)

    async def recover(self, templates: Mapping[str, Template]) -> list[Running]:
        # Templates may have been built anew since; what a sandbox stands on is written down with it.
        found = []
        ids = self._kept.ids()
        for sandbox in [*ids, *(each for each in self._disks.leftovers() if each not in ids)]:
            try:
                kept = self._kept.read(sandbox)
            except HostError:
                kept = None
            if kept is None or not kept.is_alive():
                try:
                    await asyncio.to_thread(self._free, sandbox, kept)
                except HostError as error:  # the others are not to wait for it; the next start tries again
                    _log.warning("a dead sandbox cannot be freed", sandbox=sandbox, reason=str(error))
                continue
            kept = kept.with_paused(self._cgroups.is_frozen(sandbox))
            self._there[sandbox] = kept
            if _INWARD not in kept.notes:
                await self._lead_inward(kept)
            found.append(kept.running())
        return found

    async def _lead_inward(self, kept: Kept) -> None:
        """Of a sandbox that an earlier version made."""
        try:
            await asyncio.to_thread(self._network.lead_inward, kept.slot, kept.pid)
        except OSError as error:
            _log.warning("the network of a sandbox cannot be entered", sandbox=kept.spec.id, reason=error)
        else:
            self._note(replace(kept, notes={**kept.notes, _INWARD: "1"}))

    async def create(self, spec: SandboxSpec) -> Running:
        made = asyncio.ensure_future(self._made(spec))
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            # What threads and other processes do of it cannot be called off: it is undone when it is there.
            with contextlib.suppress(HostError):
                await made
                await self.destroy(spec.id)
            raise

    async def pause(self, sandbox: SandboxId) -> None:
        kept = self._get(sandbox)
        await asyncio.to_thread(self._cgroups.freeze, sandbox)
        self._note(kept.with_paused(True))

    async def resume(self, sandbox: SandboxId) -> None:
        kept = self._get(sandbox)
        await asyncio.to_thread(self._cgroups.thaw, sandbox)
        self._note(kept.with_paused(False))

    async def destroy(self, sandbox: SandboxId) -> None:
        kept = self._there.pop(sandbox, None)
        self._inward.forget(sandbox)
        if kept is None and sandbox in self._kept.ids():
            with contextlib.suppress(HostError):
                kept = self._kept.read(sandbox)
        await asyncio.to_thread(self._free, sandbox, kept)

    async def is_alive(self, sandbox: SandboxId) -> bool:
        kept = self._there.get(sandbox)
        return kept is not None and kept.is_alive()

    async def usage(self, sandbox: SandboxId) -> Usage:
        self._get(sandbox)
        taken = await asyncio.to_thread(self._cgroups.taken, sandbox)
        disk = await asyncio.to_thread(self._disks.used_bytes, sandbox)
        return Usage(taken.cpu_seconds, taken.memory_bytes, disk, taken.pids)

    async def connect_port(self, sandbox: SandboxId, port: int) -> socket.socket:
        return await self._inward.connect(self._get(sandbox), port)

    async def snapshot(self, sandbox: SandboxId, target: Path) -> None:
        kept = self._get(sandbox)
        if not kept.paused:
            await asyncio.to_thread(self._cgroups.freeze, sandbox)
        try:
            disk = self._disks.path(sandbox)
            await asyncio.to_thread(layers.merge, kept.spec.template, disk, target)
        finally:
            if not kept.paused:
                await asyncio.to_thread(self._cgroups.thaw, sandbox)

    async def _made(self, spec: SandboxSpec) -> Running:
        slot = await asyncio.to_thread(self._network.claim, spec.id)
        kept = Kept(
            spec=spec, pid=0, born="", guest_socket=Path(), slot=slot, address=self._network.address(slot),
            notes={_FIRST_ID: str(self._first_id(slot))},
        )  # fmt: skip
        try:
            # Written before there is anything, so that whoever comes after a crash knows what to free.
            self._kept.write(kept)
            kept = await self._make(kept)
            self._kept.write(kept)
            self._there[spec.id] = kept
            await hello(kept.guest_socket, _HELLO_SECONDS)
        except BaseException:
            self._there.pop(spec.id, None)
            await asyncio.to_thread(self._free, spec.id, kept)
            raise
        return kept.running()

    def _prepare(self) -> list[str]:
        told = self._cgroups.start() + self._network.start()
        if not self._disks.limited:
            told.append(self._disks.why_not)
        if not seccomp.program(linux.MACHINE):
            told.append(f"no filter for system calls is known for {linux.MACHINE}: none is installed")
        return told

    def _first_id(self, slot: int) -> int:
        return self._terms.first_id + slot * birth.IDS if self._numbers_users else 0

    async def _make(self, kept: Kept) -> Kept:
        spec = kept.spec
        first_id = int(kept.notes[_FIRST_ID])
        listening, path = bind_guest(self._kept.directory(spec.id))
        with listening:
            limits = Limits(spec.vcpus, spec.memory_mb * _MIB, spec.pids_max)
            group = await asyncio.to_thread(self._cgroups.make, spec.id, limits, first_id)
            disk = await asyncio.to_thread(self._disks.make, spec.id, spec.disk_mb)
            root.prepare_disk(disk, spec.template.shared)
            newborn = await self._nursery.bear(
                birth.Birth(
                    root=self._root(kept, disk), groups=group.joined, delegated=group.delegated,
                    files_max=self._terms.files_max, no_new_privs=spec.template.no_new_privs,
                    user=spec.template.user, home=spec.template.home, env=dict(spec.template.env),
                ),
                listening,
            )  # fmt: skip
        try:
            # All come to their end, also where one fails: what is freed must not be made meanwhile.
            network, where = self._network, (kept.slot, newborn.pid)
            works = [asyncio.to_thread(work, *where) for work in (network.connect, network.lead_inward)]
            for failed in await asyncio.gather(newborn.ready(), *works, return_exceptions=True):
                if failed is not None:
                    raise failed
        finally:
            newborn.close()
        if (born := processes.born(newborn.pid)) is None:
            raise HostError("the sandbox's first process ended at once")
        return Kept(
            spec=spec, pid=newborn.pid, born=born, guest_socket=path, address=kept.address, slot=kept.slot,
            notes={**kept.notes, _INWARD: "1"},
        )  # fmt: skip

    def _root(self, kept: Kept, disk: Path) -> root.RootPlan:
        template, hostname = kept.spec.template, str(kept.spec.id)
        servers = self._network.name_servers if self._terms.egress == "internet" else []
        hosts = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{kept.address} {hostname}\n"
        return root.RootPlan(
            layers=[str(each) for each in template.layers], shared=list(template.shared), disk=str(disk),
            first_id=int(kept.notes[_FIRST_ID]), shm_bytes=kept.spec.memory_mb * _MIB // _SHM_SHARE,
            hostname=hostname,
            files={
                "/etc/resolv.conf": "".join(f"nameserver {each}\n" for each in servers),
                "/etc/hosts": hosts, "/etc/hostname": f"{hostname}\n",
                "/etc/machine-id": f"{uuid.uuid4().hex}\n",
            },
        )  # fmt: skip

    def _get(self, sandbox: SandboxId) -> Kept:
        if (kept := self._there.get(sandbox)) is None:
            raise HostError(f"the sandbox {sandbox} does not run here")
        return kept

    def _note(self, kept: Kept) -> None:
        self._there[kept.spec.id] = kept
        self._kept.write(kept)

    def _free(self, sandbox: SandboxId, kept: Kept | None) -> None:
        """Kill it, and undo whatever there is of it, in the order in which one needs the other."""
        self._cgroups.kill(sandbox)
        if kept is not None:
            _kill(kept)
            if kept.slot:
                self._network.disconnect(kept.slot, sandbox)
        self._cgroups.free(sandbox)
        self._disks.free(sandbox)
        self._kept.remove(sandbox)


def _hierarchies() -> Hierarchies:
    try:
        return Hierarchies.found(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return Hierarchies(None, {})


def _kill(kept: Kept) -> None:
    """Kill its first process, with which all others of its pid namespace end, and wait until they have."""
    if not kept.is_alive():
        return
    try:
        process = os.pidfd_open(kept.pid)
    except ProcessLookupError:
        return
    try:
        if kept.is_alive():  # and so the descriptor is that of the process that was meant
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            over = select.poll()
            over.register(process, select.POLLIN)
            if not over.poll(_KILL_SECONDS * 1000):
                raise HostError(f"process {kept.pid} of {kept.spec.id} lives after SIGKILL")
    finally:
        os.close(process)
