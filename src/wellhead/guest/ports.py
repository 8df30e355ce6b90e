"""The TCP ports that somebody in the sandbox listens on, from the kernel's tables."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wellhead.guest.tree import with_descendants
from wellhead.guest.worker import Line

_LISTENS = "0A"
_SOCKET = "socket:["
_ARGV_BYTES = 4096  # of a command line that are told
_NOBODY: dict[str, object] = {"command": None, "argv": None, "user": None}


class Listener(NamedTuple):
    address: str
    port: int
    inode: str


def tell(line: Line, root: int | None) -> None:
    """The operation ``ports``: addresses, and the process of each where it may be seen.

    ``root``: the process whose descendants alone are told of; None: all, for all are the sandbox's.
    """
    found = listeners(Path("/proc"))
    owners = _owners({each.inode for each in found}, Path("/proc"))
    if root is not None:
        inside = with_descendants({root})
        found = [each for each in found if owners.get(each.inode) in inside]
    line.answer_list("ports", (_record(each, owners.get(each.inode)) for each in found))


def listeners(proc: Path) -> list[Listener]:
    """By port and address."""
    found: set[Listener] = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            found.update(read_table((proc / "self" / "net" / name).read_text("ascii")))
    return sorted(found, key=lambda each: (each.port, each.address))


def read_table(text: str) -> Iterator[Listener]:
    """The listening sockets of ``/proc/net/tcp`` or ``tcp6``."""
    for line in text.splitlines()[1:]:
        columns = line.split()
        if columns[3] == _LISTENS:
            address, _, port = columns[1].partition(":")
            yield Listener(_address(address), int(port, 16), columns[9])


def _address(digits: str) -> str:
    """An address as the kernel prints it: words of 32 bits, each in the machine's own order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    order = "<" if sys.byteorder == "little" else ">"
    packed = struct.pack(f"{order}{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _owners(inodes: set[str], proc: Path) -> dict[str, int]:
    """The process with the lowest pid that holds each socket."""
    owners: dict[str, int] = {}
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        for inode in _sockets(proc / str(pid)):
            if inode in inodes:
                owners.setdefault(inode, pid)
    return owners


def sockets(process: Path) -> list[str]:
    """The inodes of the sockets that a process, by its directory in ``/proc``, holds; none where that may
    not be seen.
    """
    with contextlib.suppress(OSError), os.scandir(process / "fd") as entries:
        return [inode for each in entries if (inode := _inode(each.path))]
    return []


def _sockets(process: Path) -> list[str]:
    with contextlib.suppress(OSError):
        about = os.stat(process)
        with _as(about.st_uid, about.st_gid):
            return sockets(process)
    return []


def _inode(path: str) -> str:
    with contextlib.suppress(OSError):
        target = os.readlink(path)
        if target.startswith(_SOCKET):
            return target[len(_SOCKET) : -1]
    return ""


@contextlib.contextmanager
def _as(uid: int, gid: int) -> Iterator[None]:
    """For a while, be who owns a process: only that one may look at it where root has few rights."""
    if os.getuid() != 0:
        yield
        return
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _record(found: Listener, pid: int | None) -> dict[str, object]:
    where = {"port": found.port, "address": found.address, "pid": pid}
    return where | (_NOBODY if pid is None else _about(Path("/proc", str(pid))))


def _about(process: Path) -> dict[str, object]:
    """A process's program, its arguments and its user."""
    try:
        command = (process / "comm").read_bytes()
        words = (process / "cmdline").read_bytes()[:_ARGV_BYTES].removesuffix(b"\0").split(b"\0")
        user = process.stat().st_uid
    except OSError:  # it has just ended
        return _NOBODY
    return {
        "command": command.decode("utf-8", "replace").rstrip("\n"),
        "argv": [word.decode("utf-8", "replace") for word in words],
        "user": _name(user),
    }


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
