"""Sandboxes without isolation: each is a guest as an ordinary process tree with a home directory of its own.

For machines without root, and those that are no Linux. A sandbox here can read what this user can read,
reach what this machine can reach, and take all of its memory; templates with a root of their own, limits
and an address of their own need runtime ``namespace``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wellhead.errors import HostConflict, HostError
from wellhead.guest.terms import GuestTerms
from wellhead.host.runtime import processes
from wellhead.host.runtime.hello import hello
from wellhead.host.runtime.inward import connect_any
from wellhead.host.runtime.kept import Kept, KeptSandboxes, bind_guest, remove_tree
from wellhead.host.runtime.own_ports import OwnPorts
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template, Usage
from wellhead.host.space import bytes_on_disk
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId
from wellhead.net.sockets import Address

WARNING = (
    "runtime process isolates nothing: a sandbox can read and change all that this user can,"
    " and has no limits of its own; use it only for programs that you trust"
)
HELLO_SECONDS = 30.0
DISK_SECONDS = 5.0  # how old a count of a home's bytes may be

_GUEST_DESCRIPTOR = 3
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOME = "home"
_LOG = "guest.log"
_STOPPED = "stopped_before"
_PACKAGE = Path(__file__).parents[3]
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD)

_log = Log("wellhead.host")


class ProcessRuntime:
    """``state``: the host's directory."""

    name = "process"

    def __init__(self, state: Path) -> None:
        self._kept = KeptSandboxes(state)
        self._own_ports = OwnPorts()
        self._disk: dict[SandboxId, tuple[float, int]] = {}  # when counted, bytes

    async def start(self) -> list[str]:
        _log.warning("sandboxes are not isolated", runtime=self.name)
        return [WARNING]

    async def close(self) -> None:
        """Sandboxes go on."""

    async def recover(self, templates: Mapping[str, Template]) -> list[Running]:
        """Those that run; a paused one is paused wherever its pausing was interrupted."""
        return await asyncio.to_thread(self._recover)

    def _recover(self) -> list[Running]:
        found = []
        for sandbox in self._kept.ids():
            try:
                kept = self._kept.read(sandbox)
            except HostError as error:
                _log.error("a sandbox's state is unreadable", sandbox=sandbox, reason=str(error))
                kept = None
            if kept is None or not kept.is_alive():
                self._free(sandbox, kept)
                continue
            if kept.paused:
                processes.stop_tree(kept.pid, sandbox)
            found.append(kept.running())
        return found

    async def create(self, spec: SandboxSpec) -> Running:
        if self._kept.path(spec.id).exists():
            raise HostConflict(f"the sandbox {spec.id} is there already")
        beginning = asyncio.ensure_future(asyncio.to_thread(self._begin, spec))
        try:
            kept = await asyncio.shield(beginning)
            await hello(kept.guest_socket, HELLO_SECONDS)
        except BaseException:
            await asyncio.wait([beginning])  # what goes on in its thread must not outlive the clearing up
            await asyncio.to_thread(self._free, spec.id, self._read_or_none(spec.id))
            raise
        return kept.running()

    def _begin(self, spec: SandboxSpec) -> Kept:
        directory = self._kept.directory(spec.id)
        home = directory / _HOME
        _make_home(home, spec.template)
        spec = replace(spec, template=replace(spec.template, user=_user(), home=str(home)))
        listening, path = bind_guest(directory)
        with listening:
            terms = GuestTerms(
                user=spec.template.user, home=spec.template.home, env=_environment(spec),
                chrooted=False, isolated=False, no_new_privs=False,
            )  # fmt: skip
            pid = _spawn_guest(listening.fileno(), terms.to_json(), directory / _LOG, spec.id)
        born = processes.born(pid)
        if born is None:
            os.waitpid(pid, 0)
            raise HostError(f"the sandbox ended at once: {_last_line(directory / _LOG)}")
        kept = Kept(spec, pid, born, path)
        self._kept.write(kept)
        return kept

    async def pause(self, sandbox: SandboxId) -> None:
        await asyncio.to_thread(self._pause, self._kept.get(sandbox))

    def _pause(self, kept: Kept) -> None:
        if kept.paused:
            return
        sandbox = kept.spec.id
        self._kept.write(kept.with_paused(True))
        try:
            stopped = processes.stop_tree(kept.pid, sandbox)
        except HostError:
            processes.continue_tree(kept.pid, sandbox)
            self._kept.write(kept)
            raise
        self._kept.write(kept.with_paused(True, **{_STOPPED: " ".join(map(str, stopped))}))

    async def resume(self, sandbox: SandboxId) -> None:
        await asyncio.to_thread(self._resume, self._kept.get(sandbox))

    def _resume(self, kept: Kept) -> None:
        if kept.paused:
            stopped = map(int, kept.notes.get(_STOPPED, "").split())
            processes.continue_tree(kept.pid, kept.spec.id, but=stopped)
            self._kept.write(kept.with_paused(False, **{_STOPPED: ""}))

    async def destroy(self, sandbox: SandboxId) -> None:
        await asyncio.to_thread(self._free, sandbox, self._read_or_none(sandbox))

    def _free(self, sandbox: SandboxId, kept: Kept | None) -> None:
        self._disk.pop(sandbox, None)
        self._own_ports.forget(sandbox)
        root = kept.pid if kept is not None and kept.is_alive() else -1
        processes.kill_tree(root, sandbox)
        if kept is not None:
            _reap(kept.pid)
        self._kept.remove(sandbox)

    def _read_or_none(self, sandbox: SandboxId) -> Kept | None:
        with contextlib.suppress(HostError):
            return self._kept.read(sandbox)
        return None

    async def is_alive(self, sandbox: SandboxId) -> bool:
        kept = self._read_or_none(sandbox)
        if kept is None:
            return False
        _reap(kept.pid)
        return kept.is_alive()

    async def usage(self, sandbox: SandboxId) -> Usage:
        """Memory is what its processes do not share; the disk's share is a few seconds old at most."""
        return await asyncio.to_thread(self._usage, self._kept.get(sandbox))

    def _usage(self, kept: Kept) -> Usage:
        tree = processes.tree(kept.pid, kept.spec.id).values()
        return Usage(
            cpu_seconds=sum(each.cpu_seconds for each in tree),
            memory_bytes=sum(map(processes.own_memory, tree)),
            disk_bytes=self._disk_bytes(kept.spec.id),
            pids=len(tree),
        )

    def _disk_bytes(self, sandbox: SandboxId) -> int:
        now = time.monotonic()
        counted, size = self._disk.get(sandbox, (-DISK_SECONDS, 0))
        if now - counted >= DISK_SECONDS:
            size = bytes_on_disk(self._kept.path(sandbox) / _HOME)
            self._disk[sandbox] = now, size
        return size

    async def connect_port(self, sandbox: SandboxId, port: int) -> socket.socket:
        return await connect_any(await asyncio.to_thread(self._addresses, sandbox, port))

    def _addresses(self, sandbox: SandboxId, port: int) -> list[Address]:
        return self._own_ports.addresses(self._kept.get(sandbox), port)

    async def snapshot(self, sandbox: SandboxId, target: Path) -> None:
        """Its home as ``target/home``; it stands still meanwhile."""
        await asyncio.to_thread(self._snapshot, self._kept.get(sandbox), target)

    def _snapshot(self, kept: Kept, target: Path) -> None:
        self._pause(kept)
        try:
            target.mkdir(mode=0o700, parents=True)
            _copy(self._kept.path(kept.spec.id) / _HOME, target / _HOME)
        except (OSError, RecursionError) as error:
            remove_tree(target)
            raise HostError(f"cannot copy the home of {kept.spec.id}: {error}") from error
        finally:
            if not kept.paused:
                self._resume(self._kept.get(kept.spec.id))


def _make_home(home: Path, template: Template) -> None:
    """An empty one, or as the snapshots that the template is made of left it."""
    try:
        home.mkdir(mode=0o700)
        for layer in reversed(template.layers):
            if (layer / _HOME).is_dir():
                _copy(layer / _HOME, home)
    except OSError as error:
        raise HostError(f"cannot make the home of a sandbox at {home}: {error}") from error


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=_special, dirs_exist_ok=True)


def _special(directory: str, names: list[str]) -> list[str]:
    """Sockets, pipes and devices: there is nothing in them to copy."""
    kinds = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    return [name for name, mode in modes.items() if not any(kind(mode) for kind in kinds)]


def _user() -> str:
    """Who we are, which is who every sandbox is."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _environment(spec: SandboxSpec) -> dict[str, str]:
    """What every program of a sandbox is told: of our own environment, where programs are."""
    path = os.environ.get("PATH", _PATH)
    return {"PATH": path, **spec.template.env, processes.MARK: spec.id}


def _spawn_guest(descriptor: int, terms: str, log: Path, sandbox: SandboxId) -> int:
    """Start a guest that outlives us, in a session of its own, with nothing of our environment but PATH."""
    environment = {
        "PATH": os.environ.get("PATH", _PATH),
        "PYTHONPATH": str(_PACKAGE),
        processes.MARK: sandbox,
    }
    arguments = ["--socket", str(_GUEST_DESCRIPTOR), "--terms", terms]
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.posix_spawn(
            sys.executable, [sys.executable, "-P", "-m", "wellhead.guest", *arguments], environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), appended, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, descriptor, _GUEST_DESCRIPTOR),
            ],
            setsid=True, setsigmask=[], setsigdef=_SIGNALS,
        )  # fmt: skip
    except (OSError, NotImplementedError) as error:
        raise HostError(f"cannot start a sandbox: {error}") from error


def _reap(pid: int) -> None:
    """Ask how it ended, where it is our child and did."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it says nothing")
    return "it says nothing"
