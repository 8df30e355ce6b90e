"""Disks of sandboxes, each with a size of its own: ext4 in a sparse file, mounted through a loop device.

``{state}/disks/{id}.img``, mounted at ``{state}/disks/{id}``. A disk takes what was written, not its size.
Where loop devices cannot be used a disk is a plain directory, which nothing bounds but the host's own disk.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import subprocess
import time
from pathlib import Path

from wellhead import private
from wellhead.errors import HostConflict, HostError, HostInvalid, InputError
from wellhead.host.runtime.kept import remove_tree, told
from wellhead.host.space import bytes_on_disk
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId, read_sandbox_id

SIZE_MIN_MB = 16
SIZE_MAX_MB = 16 * 1024 * 1024

_PROBE_MB = SIZE_MIN_MB
_PIECE = 1024 * 1024
_SECONDS = 60.0  # for mkfs and mount
_BUSY_SECONDS = 5.0  # for what was killed to let go of its disk
_MNT_DETACH = 2
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
# No journal: a sandbox does not outlive its machine. Inode tables are zeros in a new file already.
_MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard")
_OPTIONS = "loop,nodev,noatime,discard,noinit_itable"

_log = Log("wellhead.host")


class Disks:
    """The disks in a host's state directory. Calls block; they are made in a thread."""

    def __init__(self, state: Path) -> None:
        self._place = state / "disks"

    @property
    def limited(self) -> bool:
        """Whether a disk cannot outgrow its size; found out once, by making one."""
        return not self.why_not

    @functools.cached_property
    def why_not(self) -> str:
        """Why disks are not limited here; "" where they are."""
        try:
            self._probe()
        except HostError as error:
            _log.warning("disks of sandboxes have no limit", reason=str(error))
            return f"the disks of sandboxes have no limit of their own: {error}"
        return ""

    def make(self, sandbox: SandboxId, size_mb: int) -> Path:
        """A new empty disk; the directory where it is mounted.

        Raises:
            HostInvalid: a size that no disk can have.
            HostConflict: the sandbox has one.
            HostError: it cannot be made; nothing of it is left.
        """
        if not SIZE_MIN_MB <= size_mb <= SIZE_MAX_MB:
            raise HostInvalid(f"a disk of {size_mb} MB; it has {SIZE_MIN_MB} to {SIZE_MAX_MB} MB")
        with told():
            private.make_directory(self._place)
        place = self.path(sandbox)
        if place.exists() or self._image(sandbox).exists():
            raise HostConflict(f"the sandbox {sandbox} has a disk already")
        limited = self.limited
        with told():
            private.make_directory(place)
        if limited:
            try:
                _copy_sparse(self._pristine(size_mb), self._image(sandbox))
                _mount(self._image(sandbox), place)
            except HostError:
                self.free(sandbox)
                raise
        return place

    def path(self, sandbox: SandboxId) -> Path:
        """Where a sandbox's disk is, or would be."""
        return self._place / sandbox

    def free(self, sandbox: SandboxId) -> None:
        """Unmount a disk and remove it; where there is none, nothing.

        Raises:
            HostError: something of it cannot be removed.
        """
        place = self.path(sandbox)
        if os.path.ismount(place):
            _unmount(place)
        self._image(sandbox).unlink(missing_ok=True)
        remove_tree(place)

    def leftovers(self) -> list[SandboxId]:
        """The sandboxes that have a disk or something of one, from whenever."""
        found = set()
        for name in os.listdir(self._place) if self._place.is_dir() else ():
            try:
                found.add(read_sandbox_id(name.removesuffix(".img")))
            except InputError:
                continue
        return sorted(found)

    def used_bytes(self, sandbox: SandboxId) -> int:
        """What is written on a disk; 0 where there is none."""
        place = self.path(sandbox)
        if not os.path.ismount(place):
            return bytes_on_disk(place)
        facts = os.statvfs(place)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize

    def _image(self, sandbox: SandboxId) -> Path:
        return self._place / f"{sandbox}.img"

    def _probe(self) -> None:
        if os.geteuid() != 0:
            raise HostError("mounting needs root")
        with told():
            private.make_directory(self._place)
            place = private.make_directory(self._place / f"probe-{os.getpid()}")
        image = place.with_suffix(".img")
        try:
            _copy_sparse(self._pristine(_PROBE_MB), image)
            _mount(image, place)
            _unmount(place)
        finally:
            image.unlink(missing_ok=True)
            place.rmdir()

    def _pristine(self, size_mb: int) -> Path:
        """An image of that size with an empty filesystem, made once; others are copies of it."""
        image = self._place / f"pristine-{size_mb}"
        if not image.exists():
            new = image.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
            try:
                new.touch(mode=0o600)
                os.truncate(new, size_mb * 1024 * 1024)
                _run([*_MKFS, str(new)])
                new.rename(image)
            except OSError as error:
                raise HostError(f"cannot make a disk of {size_mb} MB: {error}") from error
            finally:
                new.unlink(missing_ok=True)
        return image


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy what is written in a file and leave its holes."""
    try:
        with source.open("rb") as old, open(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as new:
            reader, writer, size = old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size
            os.truncate(writer, size)
            at = 0
            while (begin := _data_from(reader, at)) < size:
                at = os.lseek(reader, begin, os.SEEK_HOLE)
                while begin < at:
                    begin += os.pwrite(writer, os.pread(reader, min(_PIECE, at - begin), begin), begin)
    except OSError as error:
        raise HostError(f"cannot write {target}: {error.strerror or error}") from error


def _data_from(descriptor: int, at: int) -> int:
    """Where the next data of a file begin; its end where there are none."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.fstat(descriptor).st_size


def _mount(image: Path, place: Path) -> None:
    _run(["mount", "-t", "ext4", "-o", _OPTIONS, str(image), str(place)])


def _unmount(place: Path) -> None:
    """Unmount, and free the loop device; what still holds it after a while keeps it until it lets go."""
    libc = ctypes.CDLL(None, use_errno=True)
    end = time.monotonic() + _BUSY_SECONDS
    while libc.umount2(os.fsencode(place), 0):
        number = ctypes.get_errno()
        if number == errno.EINVAL:  # somebody else did it meanwhile
            return
        if number != errno.EBUSY:
            raise HostError(f"cannot unmount {place}: {os.strerror(number)}")
        if time.monotonic() > end:
            _log.warning("a disk is in use after its sandbox", place=str(place))
            libc.umount2(os.fsencode(place), _MNT_DETACH)
            return
        time.sleep(0.02)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS, env={"PATH": _PATH, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise HostError(f"there is no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{command[0]} did not end within {_SECONDS:g} s") from None
    if done.returncode:
        raise HostError(f"{command[0]} says: {done.stderr.strip()}")
