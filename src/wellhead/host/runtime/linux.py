"""The calls of the Linux kernel that Python has no name for: mounts, namespaces, capabilities, seccomp.

Everything raises OSError with the kernel's errno. Imports next to nothing: the zygote shares it with every
sandbox.

Source: mount(2), mount_setattr(2), open_tree(2), pivot_root(2), unshare(2), setns(2), capset(2), prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_MOUNT_ATTR_IDMAP = 0x100000
_PR_SET_NAME = 15
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_LAST = 40  # CHECKPOINT_RESTORE; what a later kernel adds is refused with the rest, see drop_capabilities

# The same on every architecture since they were added together with it. Source: asm-generic/unistd.h
_OPEN_TREE, _MOVE_MOUNT, _CLOSE_RANGE, _MOUNT_SETATTR = 428, 429, 436, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_KEYCTL, _JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1
MACHINE = platform.machine()

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_libc.syscall.restype = ctypes.c_long

CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "SETPCAP": 8, "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
"""What root in a sandbox keeps. Not among them: SYS_ADMIN, SYS_PTRACE, NET_ADMIN, NET_RAW, MKNOD, and the
rest.
"""


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    done = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, options.encode() or None
    )
    _check(done, target)


def unmount(target: str | Path, flags: int = 0) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new: str | Path) -> None:
    """Make a mounted directory this mount namespace's root, and forget the old one."""
    os.chdir(new)
    _call(_PIVOT_ROOT[MACHINE], b".", b".")
    unmount(".", MNT_DETACH)  # the old root lies on top of the new one
    os.chdir("/")


def cloned(directory: str | Path, user_namespace: int | None = None) -> int:
    """A descriptor of a mount that shows ``directory``, as that user namespace numbers users where one is
    given; it is nowhere yet.
    """
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    clone = _call(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), os.fsencode(directory), flags, path=directory)
    if user_namespace is not None:
        # struct mount_attr: set, clear, propagation, user namespace
        attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
        try:
            _call(
                _MOUNT_SETATTR, ctypes.c_int(clone), b"", ctypes.c_uint(_AT_EMPTY_PATH), attributes,
                ctypes.c_size_t(len(attributes)), path=directory,
            )  # fmt: skip
        except OSError:
            os.close(clone)
            raise
    return clone


def attach(clone: int, target: str | Path) -> None:
    """Show a mount of ``cloned`` at a directory, and close it."""
    _call(
        _MOVE_MOUNT, ctypes.c_int(clone), b"", ctypes.c_int(_AT_FDCWD), os.fsencode(target),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH), path=target,
    )  # fmt: skip
    os.close(clone)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind))


def act_on_files_as(user: int) -> None:
    """Make files as a user and group of that number, and keep every capability.

    Without it an overlay could not write to a mount that numbers users otherwise, where this process's own
    number means nobody.
    """
    _libc.setfsgid(user)
    _libc.setfsuid(user)  # takes some capabilities away, of those in effect only
    _, permitted, inheritable = _capabilities()
    _set_capabilities(permitted, permitted, inheritable)


def drop_capabilities() -> None:
    """Keep only CAPABILITIES, for this process and whatever it executes."""
    kept = sum(1 << number for number in CAPABILITIES.values())
    for number in range(64):
        if not kept >> number & 1:
            if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and number <= _CAP_LAST:
                _check(-1)
    _, permitted, _ = _capabilities()
    _set_capabilities(permitted & kept, permitted & kept, 0)


def no_new_privileges() -> None:
    """From now on no program that is executed gains anything by its set-user-id bit."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def hide_memory() -> None:
    """Nobody without SYS_PTRACE over this process may read its memory, descriptors or root under /proc."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def own_keyring() -> None:
    """Leave the kernel's keys of whoever started this."""
    with contextlib.suppress(OSError):  # a kernel without keys
        _call(_KEYCTL[MACHINE], ctypes.c_ulong(_JOIN_SESSION_KEYRING), None)


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter: classic BPF, 8 bytes an instruction."""
    held = ctypes.create_string_buffer(program, len(program))
    rules = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held)))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(rules), 0, 0))


def show_as(title: str) -> None:
    """Overwrite this process's name and command line, and its environment, which is the host's.

    Source: proc(5), /proc/pid/stat, fields 48 to 51.
    """
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    first, last, environment, end = (int(each) for each in fields[45:49])
    ctypes.memset(environment, 0, end - environment)
    room = last - first - 1
    ctypes.memset(first, 0, room)
    text = title.encode()[:room]
    ctypes.memmove(first, text, len(text))
    name = ctypes.create_string_buffer(text[:15])
    _check(_libc.prctl(_PR_SET_NAME, ctypes.addressof(name), 0, 0, 0))


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor above 2 that is not kept."""
    start = 3
    for descriptor in sorted(kept):
        if descriptor > start:
            os.closerange(start, descriptor)
        start = max(start, descriptor + 1)
    _call(_CLOSE_RANGE, ctypes.c_uint(start), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(0))


def _capabilities() -> tuple[int, int, int]:
    """Effective, permitted, inheritable, as sets of bits."""
    held = ctypes.create_string_buffer(24)
    _check(_libc.capget(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), held))
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("6I", held.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def _set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    words = [each >> shift & 0xFFFFFFFF for shift in (0, 32) for each in (effective, permitted, inheritable)]
    _check(_libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), struct.pack("6I", *words)))


def _call(number: int, *arguments: object, path: str | Path | None = None) -> int:
    done: int = _libc.syscall(ctypes.c_long(number), *arguments)
    _check(done, path)
    return done


def _check(done: int, path: str | Path | None = None) -> None:
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *([str(path)] if path is not None else []))
