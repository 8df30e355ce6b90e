"""Forks: a child of the guest that is nobody's event loop, and what it gives up before it serves a user."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from wellhead.guest.terms import GuestTerms
from wellhead.guest.users import User

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_OOM_SCORE_MORE, _OOM_SCORE_MAX = 900, 1000  # by less, the guest goes before many that are smaller
_CAPABILITIES = 64  # more than any kernel knows

_LIBC = ctypes.CDLL(None, use_errno=True)
_HANDLED = [each for each in signal.valid_signals() if each not in (signal.SIGKILL, signal.SIGSTOP)]


def fork(run: Callable[[], NoReturn]) -> int:
    """The pid of a child in which ``run`` is called, with signals as a new program expects them.

    Raises:
        OSError: no process can be made.
    """
    # A handler of the loop's that ran in the child would write into the loop's own wake-up descriptor.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for each in _HANDLED:
                with contextlib.suppress(OSError, ValueError):  # those that the C library keeps
                    signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            run()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become(user: User, terms: GuestTerms) -> None:
    """Be this user, for good, and have no more rights than the terms leave to anybody.

    Raises:
        OSError: not allowed.
    """
    if terms.capabilities is not None:
        _drop_capabilities(frozenset(terms.capabilities))
    if (user.uid, user.gid) != (os.geteuid(), os.getegid()) or os.geteuid() == 0:
        if set(os.getgroups()) != set(user.groups):
            os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    if terms.no_new_privs:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def adopt_orphans() -> None:
    """Have processes whose parents died become children of this one, as those of a first process do."""
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def go_before_the_guest() -> None:
    """Have the kernel kill this process where memory ends, and not the guest, with which all would end."""
    with contextlib.suppress(OSError, ValueError):
        _prctl(_PR_SET_DUMPABLE, 1)  # else the file is not its own process's
        with open("/proc/self/oom_score_adj", "r+") as file:
            score = int(file.read()) + _OOM_SCORE_MORE
            file.seek(0)
            file.write(str(min(score, _OOM_SCORE_MAX)))
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_DUMPABLE, 0)


def _drop_capabilities(kept: frozenset[int]) -> None:
    with contextlib.suppress(OSError):
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for each in range(_CAPABILITIES):
        if each not in kept:
            try:
                _prctl(_PR_CAPBSET_DROP, each)
            except OSError as error:
                if error.errno == errno.EINVAL:  # beyond the last one
                    return
                raise


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux" and _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
