"""The root that a sandbox sees, put together in its own mount namespace: nothing of it shows outside.

::

    /             overlay: {disk}/root over the template's layers
    /usr, ...     for each shared directory an overlay of its own: {disk}/shared/N over what the template's
                  layers have there, over the machine's own directory
    /dev          tmpfs with the few devices that every program expects, a terminal multiplexer of its own
    /proc         of its own processes; what speaks of the machine is read-only or empty
    /sys          nothing
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wellhead.host.runtime import linux

_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_LINKS = {
    "ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}  # fmt: skip
_READ_ONLY = ("sys", "irq", "bus", "fs", "sysrq-trigger", "asound", "tty", "driver")
_EMPTY_FILES = (
    "kcore", "keys", "key-users", "kmsg", "kallsyms", "timer_list", "timer_stats", "sched_debug",
    "latency_stats", "slabinfo", "vmallocinfo", "config.gz", "mtrr", "pagetypeinfo",
)  # fmt: skip
_EMPTY_DIRECTORIES = ("acpi", "scsi")
_TTY_GROUP = 5
_TERMINALS_MAX = 128  # of a sandbox; the kernel has some thousand for all of the machine
_OVERLAY = "redirect_dir=off,metacopy=off,index=off"


@dataclass(frozen=True, slots=True)
class RootPlan:
    """``layers``: the topmost first. ``disk``: a mounted directory that the sandbox may fill. ``first_id``:
    the machine's number of the sandbox's user 0; 0 where users are numbered alike inside and outside.
    """

    layers: Sequence[str]
    shared: Sequence[str]
    disk: str
    first_id: int
    shm_bytes: int
    hostname: str
    files: dict[str, str]  # absolute path -> text: resolv.conf and its like


def build(plan: RootPlan, user_namespace: int | None) -> None:
    """Mount all of it and make it this process's root. For the first process of new mount and pid namespaces.

    ``user_namespace``: a descriptor of the one whose numbering the layers and the disk are to have.

    Raises:
        OSError: something of it cannot be mounted.
    """
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    layers = list(plan.layers)
    shared = {each: [*shared_layers(layers, each), each] for each in plan.shared}
    stage = _Stage(user_namespace)
    every = {path: stage.clone(path) for path in dict.fromkeys([*layers, *sum(shared.values(), [])])}
    disk = stage.clone(plan.disk)
    linux.mount("tmpfs", plan.disk, "tmpfs", 0, "size=64k,mode=0700")
    os.chdir(plan.disk)
    places = {path: stage.show(clone) for path, clone in every.items()}
    disk_place = stage.show(disk)
    linux.act_on_files_as(plan.first_id)
    os.mkdir("root")
    _overlay("root", [places[path] for path in layers], f"{disk_place}/root")
    for number, (directory, lower) in enumerate(shared.items()):
        target = _directory("root", directory)
        _overlay(target, [places[path] for path in lower], f"{disk_place}/shared/{number}")
    _dev(_directory("root", "/dev"), plan)
    _proc(_directory("root", "/proc"), "root/dev/null")
    _directory("root", "/sys")
    linux.pivot_root("root")
    for path, text in plan.files.items():
        _write(path, text)
    if not os.path.isdir("/tmp"):
        os.mkdir("/tmp")
    os.chmod("/tmp", 0o1777)
    linux.act_on_files_as(0)


class _Stage:
    """Mounts that are made ahead, shown under short names: options of an overlay are one page at most."""

    def __init__(self, user_namespace: int | None) -> None:
        self._user_namespace = user_namespace
        self._count = 0

    def clone(self, path: str) -> int:
        return linux.cloned(path, self._user_namespace)

    def show(self, clone: int) -> str:
        name = f"{self._count:x}"
        self._count += 1
        os.mkdir(name)
        linux.attach(clone, name)
        return name


def prepare_disk(disk: Path, shared: Sequence[str]) -> None:
    """Make the directories that the overlays write to, on a disk that is empty or has them already."""
    names = ["root", *(f"shared/{number}" for number in range(len(shared)))]
    for name in names:
        for kind in ("upper", "work"):
            (disk / name / kind).mkdir(parents=True, exist_ok=True)
    for directory, name in zip(shared, names[1:], strict=True):
        os.chmod(disk / name / "upper", stat.S_IMODE(os.stat(directory).st_mode))
    os.chmod(disk / "root" / "upper", 0o755)


def shared_layers(layers: Sequence[str], directory: str) -> list[str]:
    """What lies over the machine's own ``directory``: those of the layers that have something there."""
    found = []
    for layer in layers:
        place = Path(layer, directory.lstrip("/"))
        if place.is_dir() and not place.is_symlink():
            found.append(str(place))
    return found


def _overlay(target: str, lower: Sequence[str], place: str) -> None:
    options = f"lowerdir={':'.join(lower)},upperdir={place}/upper,workdir={place}/work,{_OVERLAY}"
    linux.mount("overlay", target, "overlay", linux.MS_NODEV, options)


def _directory(root: str, path: str) -> str:
    """The directory at ``path`` below ``root``, made where it is missing; a link could lead out of the
    root.
    """
    at = root
    for part in Path(path).parts[1:]:
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except FileNotFoundError:
            os.mkdir(at, 0o755)
            continue
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(20, "the template has something else in the place of a directory", path)
    return at


def _dev(place: str, plan: RootPlan) -> None:
    owner = f"uid={plan.first_id},gid={plan.first_id}"
    flags = linux.MS_NOSUID | linux.MS_NOEXEC
    linux.mount("tmpfs", place, "tmpfs", flags, f"size=64k,mode=0755,{owner}")
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"{place}/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    for name, target in _LINKS.items():
        os.symlink(target, f"{place}/{name}")
    os.mkdir(f"{place}/pts")
    linux.mount(
        "devpts", f"{place}/pts", "devpts", flags,
        f"newinstance,ptmxmode=0666,mode=0620,gid={plan.first_id + _TTY_GROUP},max={_TERMINALS_MAX}",
    )  # fmt: skip
    os.mkdir(f"{place}/shm")
    linux.mount(
        "tmpfs", f"{place}/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV,
        f"size={plan.shm_bytes},mode=1777,{owner}",
    )  # fmt: skip


def _proc(place: str, nothing: str) -> None:
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", place, "proc", flags)
    for name in _READ_ONLY:
        path = f"{place}/{name}"
        if os.path.lexists(path):
            linux.mount(path, path, flags=linux.MS_BIND | linux.MS_REC)
            linux.mount("none", path, flags=linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | flags)
    for name in _EMPTY_FILES:
        if os.path.lexists(path := f"{place}/{name}"):
            linux.mount(nothing, path, flags=linux.MS_BIND)
    for name in _EMPTY_DIRECTORIES:
        if os.path.lexists(path := f"{place}/{name}"):
            linux.mount("tmpfs", path, "tmpfs", flags | linux.MS_RDONLY, "size=0")


def _write(path: str, text: str) -> None:
    """Put a file in the place of whatever is there. The root is the sandbox's by now: no link leads out."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "x") as file:
        file.write(text)
    os.chmod(path, 0o644)
