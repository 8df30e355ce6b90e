"""Layers of a root: merging what a sandbox changed with what its template had, into one layer.

What an overlay writes says of a name that it is gone (a character device 0:0), or of a directory that
nothing shows through it (an attribute). Where all that lay below is merged as well, both have done their
work and are left out; below a directory that is shared with the machine they stay, for the machine's own
lies below.

Source: the kernel's filesystems/overlayfs, "whiteouts and opaque directories".
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from wellhead.errors import HostError
from wellhead.host.runtime.kept import remove_tree
from wellhead.host.runtime.root import shared_layers
from wellhead.host.runtime.runtime import Template

_OPAQUE = "trusted.overlay.opaque"
_OVERLAY = "trusted.overlay."
_MADE = ("dev", "proc", "sys")  # every sandbox gets these anew
_BLOCK = 1 << 20


def merge(template: Template, disk: Path, target: Path) -> None:
    """Write what a sandbox on ``disk`` has beyond the machine's shared directories as a layer at
    ``target``, which is made. Files of the template are not copied where ``target`` is on the same file
    system.

    Raises:
        HostError: something cannot be read or written; ``target`` is removed then.
    """
    own = [str(each) for each in template.layers]
    merger = _Merger({os.path.abspath(each) for each in own})
    shared = {each.strip("/") for each in template.shared}
    try:
        merger.directory([str(disk / "root" / "upper"), *own], str(target), "", shared)
        for number, directory in enumerate(template.shared):
            upper = str(disk / "shared" / str(number) / "upper")
            place = target / directory.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            merger.directory([upper, *shared_layers(own, directory)], str(place), None, set())
    except (OSError, RecursionError) as error:
        remove_tree(target)
        raise HostError(f"cannot write the layer {target}: {error}") from error


class _Merger:
    def __init__(self, kept: set[str]) -> None:
        self._kept = kept  # directories whose files never change, and may be linked to
        self._copies: dict[tuple[int, int], str] = {}  # of files with several names

    def directory(self, sources: Sequence[str], target: str, path: str | None, left_out: set[str]) -> None:
        """Merge directories, the topmost first. ``path``: below the root; None where markers are to stay."""
        os.mkdir(target)
        names: dict[str, None] = {}
        for source in sources:
            names.update(dict.fromkeys(os.listdir(source)))
        for name in names:
            below = None if path is None else f"{path}/{name}".lstrip("/")
            if below is None or (below not in left_out and below not in _MADE):
                self._entry([f"{each}/{name}" for each in sources], f"{target}/{name}", below, left_out)
        _copy_facts(sources[0], target)
        if path is None and any(_is_opaque(each) for each in sources):
            os.setxattr(target, _OPAQUE, b"y")

    def _entry(self, sources: Sequence[str], target: str, path: str | None, left_out: set[str]) -> None:
        there = [each for each in sources if os.path.lexists(each)]
        facts = os.lstat(there[0])
        if _is_gone(facts):
            if path is None:
                os.mknod(target, stat.S_IFCHR, os.makedev(0, 0))
        elif stat.S_ISDIR(facts.st_mode):
            merged, covered = _shown(there)
            self.directory(merged, target, path, left_out)
            if path is None and covered:
                os.setxattr(target, _OPAQUE, b"y")
        else:
            self._file(there[0], facts, target)

    def _file(self, source: str, facts: os.stat_result, target: str) -> None:
        if any(source.startswith(f"{each}/") for each in self._kept):
            try:
                os.link(source, target, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
        key = (facts.st_dev, facts.st_ino)
        if facts.st_nlink > 1 and key in self._copies:
            os.link(self._copies[key], target, follow_symlinks=False)
            return
        if stat.S_ISREG(facts.st_mode):
            _copy_bytes(source, target, facts.st_size)
        elif stat.S_ISLNK(facts.st_mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISFIFO(facts.st_mode):
            os.mkfifo(target)
        else:
            return  # a socket nobody listens on any more; devices cannot be made inside
        _copy_facts(source, target)
        if facts.st_nlink > 1:
            self._copies[key] = target


def _shown(directories: Sequence[str]) -> tuple[list[str], bool]:
    """Those of the entries, the topmost first, that show as one directory; and whether one hides what is
    below.
    """
    shown: list[str] = []
    for each in directories:
        facts = os.lstat(each)
        if not stat.S_ISDIR(facts.st_mode):
            return shown, True
        shown.append(each)
        if _is_opaque(each):
            return shown, True
    return shown, False


def _is_gone(facts: os.stat_result) -> bool:
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def _is_opaque(directory: str) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _copy_bytes(source: str, target: str, size: int) -> None:
    """Copy a file with its holes."""
    with open(source, "rb", buffering=0) as read, open(target, "xb", buffering=0) as written:
        os.ftruncate(written.fileno(), size)
        at = 0
        while at < size:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            end = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            while at < end:
                os.lseek(written.fileno(), at, os.SEEK_SET)
                done = os.sendfile(written.fileno(), read.fileno(), at, min(_BLOCK, end - at))
                if done == 0:
                    return
                at += done


def _copy_facts(source: str, target: str) -> None:
    """Owner, mode, times and attributes, but for the overlay's own."""
    facts = os.lstat(source)
    os.chown(target, facts.st_uid, facts.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(facts.st_mode):
        os.chmod(target, stat.S_IMODE(facts.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(_OVERLAY):
            with contextlib.suppress(OSError):  # of a kind that the target's file system does not keep
                os.setxattr(
                    target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False
                )
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)
