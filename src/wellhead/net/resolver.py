"""Names to IP addresses, also while the name server is dead or slow.

The system's resolver blocks, for half a minute where nobody answers. An event loop has few threads for it
(uvloop four), so a few names that hang would hold up every other dial, and the end of the program too. Here
each name is asked for once at a time, in a thread that nobody waits for; and an address that was good before
is used where no answer comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from wellhead.errors import DialError
from wellhead.logs import Log

MAX_LOOKUPS: Final = 32  # names asked for at once
MAX_REMEMBERED: Final = 256  # names; beyond, the one that was looked up longest ago is forgotten
PATIENCE_SECONDS: Final = 2.0  # for a name whose last address is known
GOOD_SECONDS: Final = 24 * 3600.0  # how long an address may be used after the last answer

Found = Sequence[tuple[Any, ...]]  # what socket.getaddrinfo gives
Lookup = Callable[[str], Found]

_log = Log("wellhead.net")
_CERTAIN = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Resolver:
    """One for all loops of a process. ``lookup(name)`` blocks, as ``socket.getaddrinfo`` does."""

    def __init__(
        self,
        lookup: Lookup = lambda name: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM),
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        max_lookups: int = MAX_LOOKUPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._patience_seconds = patience_seconds
        self._max_lookups = max_lookups
        self._clock = clock
        self._lock = threading.Lock()  # holds the rest together
        self._running: dict[str, _Lookup] = {}
        self._good: dict[str, tuple[float, list[str]]] = {}  # name -> when, its addresses; youngest last
        self._stale: set[str] = set()  # names whose last addresses are used, which was logged

    async def addresses(self, name: str) -> list[str]:
        """The IP addresses of a name, in the order to try them, families taking turns.

        Where none is known from before it takes as long as the system does: the caller bounds it.

        Raises:
            DialError: the name does not exist, or cannot be looked up now and could not before.
        """
        known = self._known(name)
        try:
            lookup = self._begin(name)
            patience = lookup.began + self._patience_seconds - self._clock()
            async with asyncio.timeout(max(0.0, patience) if known else None):
                return await _answer(name, lookup)
        except TimeoutError:
            why = f"no answer within {self._patience_seconds:g} s"
        except DialError as error:
            if not known or _is_certain(error):
                raise
            why = str(error)
        with self._lock:
            first = name not in self._stale
            self._stale.add(name)
        if first:
            _log.warning("name not looked up, its last addresses are used", name=name, error=why)
        return known

    def _known(self, name: str) -> list[str]:
        with self._lock:
            when, addresses = self._good.get(name, (0.0, []))
        return addresses if self._clock() - when <= GOOD_SECONDS else []

    def _begin(self, name: str) -> _Lookup:
        """The lookup that runs, or a new one."""
        with self._lock:
            if (running := self._running.get(name)) is not None:
                return running
            if len(self._running) >= self._max_lookups:
                busy = OSError(socket.EAI_AGAIN, f"{len(self._running)} other names wait for a name server")
                raise DialError(f"{name}: {busy.strerror}") from busy
            lookup = self._running[name] = _Lookup(self._clock(), Future())
        thread = threading.Thread(target=self._run, args=(name, lookup), name=f"lookup {name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            self._settle(name, [])
            raise DialError(f"{name}: {error}") from OSError(socket.EAI_AGAIN, str(error))
        return lookup

    def _run(self, name: str, lookup: _Lookup) -> None:
        try:
            found = _in_turn(self._lookup(name))
        except BaseException as error:
            self._settle(name, [])
            lookup.future.set_exception(error)
        else:
            self._settle(name, found)
            lookup.future.set_result(found)

    def _settle(self, name: str, found: list[str]) -> None:
        with self._lock:
            del self._running[name]
            if found:
                self._stale.discard(name)
                self._good.pop(name, None)
                self._good[name] = (self._clock(), found)
                if len(self._good) > MAX_REMEMBERED:
                    oldest = next(iter(self._good))
                    del self._good[oldest]
                    self._stale.discard(oldest)


class _Lookup(NamedTuple):
    began: float
    future: Future[list[str]]  # of no loop: several may wait for it


async def _answer(name: str, lookup: _Lookup) -> list[str]:
    """
    Raises:
        DialError: the system's resolver said no.
    """
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()

    def tell(_: Future[list[str]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended while the name server thought
            loop.call_soon_threadsafe(answered.set)

    lookup.future.add_done_callback(tell)
    await answered.wait()
    try:
        return lookup.future.result()
    except (OSError, UnicodeError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not a name"
        raise DialError(f"{name}: {why}") from error


def _is_certain(error: DialError) -> bool:
    """Whether a name server said that there is no such name, rather than nothing."""
    cause = error.__cause__
    return not isinstance(cause, OSError) or cause.errno in _CERTAIN


def _in_turn(found: Found) -> list[str]:
    """Addresses, the families taking turns as RFC 8305 section 4 has them."""
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    queues = list(families.values())
    return [queue[n] for n in range(max(map(len, queues), default=0)) for queue in queues if n < len(queue)]


system: Final = Resolver()
"""The process's own: what one dial learned serves the next."""
