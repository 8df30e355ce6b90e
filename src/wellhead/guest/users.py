"""Who a program or a file operation is for: users, from the sandbox's own ``/etc/passwd`` and ``/etc/group``.

The C library is not asked in a sandbox: what it loads for that would come from the sandbox's own files, into
the one process that has more rights than any in there.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.terms import GuestTerms
from wellhead.model.text import shown

_FILE_MAX = 1024 * 1024  # bytes read of a table


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def find_user(name: str | None, terms: GuestTerms, etc: Path = Path("/etc")) -> User:
    """The user of this name, or the sandbox's own where there is no name.

    Raises:
        Refusal: nobody is called so (not_found).
    """
    wanted = terms.user if name is None else name
    user = _in_tables(wanted, etc) if terms.chrooted else _in_system(wanted)
    if user is None:
        raise Refusal(Word.NOT_FOUND, f"there is no user {shown(wanted)} here")
    home = terms.home if wanted == terms.user else user.home
    return User(user.name, user.uid, user.gid, user.groups, home or "/", user.shell or "/bin/sh")


def names(etc: Path = Path("/etc")) -> tuple[dict[int, str], dict[int, str]]:
    """What users and what groups are called, by number."""
    users = {int(line[2]): line[0] for line in reversed(list(_lines(etc / "passwd", 7, 2)))}
    groups = {int(line[2]): line[0] for line in reversed(list(_lines(etc / "group", 4, 2)))}
    return users, groups


def _in_tables(wanted: str, etc: Path) -> User | None:
    for line in _lines(etc / "passwd", 7, 2, 3):
        if line[0] == wanted:
            uid, gid = int(line[2]), int(line[3])
            return User(wanted, uid, gid, _groups(wanted, gid, etc), line[5], line[6])
    if wanted == "root":  # a template may have no table at all
        return User("root", 0, 0, (0,), "/root", "/bin/sh")
    return None


def _groups(user: str, gid: int, etc: Path) -> tuple[int, ...]:
    found = {gid: None}
    for line in _lines(etc / "group", 4, 2):
        if user in line[3].split(","):
            found[int(line[2])] = None
    return tuple(found)


def _in_system(wanted: str) -> User | None:
    try:
        entry = pwd.getpwnam(wanted)
    except KeyError:
        return None
    groups = tuple(os.getgrouplist(wanted, entry.pw_gid))
    return User(wanted, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_shell)


def system_names() -> tuple[dict[int, str], dict[int, str]]:
    """``names`` of the machine itself."""
    users = {each.pw_uid: each.pw_name for each in reversed(pwd.getpwall())}
    return users, {each.gr_gid: each.gr_name for each in reversed(grp.getgrall())}


def _lines(path: Path, columns: int, *numbers: int) -> Iterator[list[str]]:
    """The lines of a table that have all their columns, and numbers where they belong.

    The sandbox owns the file: a fifo in its place must not hold us up, nor a huge one fill the memory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_plain = stat.S_ISREG(os.fstat(fd).st_mode)
        text = os.read(fd, _FILE_MAX).decode("utf-8", "replace") if is_plain else ""
    except OSError:
        return
    finally:
        os.close(fd)
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) == columns and all(parts[each].isascii() and parts[each].isdigit() for each in numbers):
            if all(int(parts[each]) < 2**32 - 1 for each in numbers):
                yield parts
