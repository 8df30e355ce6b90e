"""The certificate that a name is shown: the operator's, an issued one, or one that the local CA makes.

Files are read and contexts made anew in a thread; connections that are open keep the one they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from wellhead.logs import Log
from wellhead.net.authority import LocalAuthority
from wellhead.net.certificate_files import CertificateFiles, Table
from wellhead.net.keypair import KeyPair

CONTEXTS: Final = 1024  # 21 KiB each
ALARM_DAYS: Final = (14, 7, 1)
LOOPBACK: Final = "localhost"  # stands in the certificate for addresses
SHOWN: Final = 100  # certificates in ``days_left``, those that end first
_DAY: Final = dt.timedelta(days=1)
ContextFor = Callable[[Sequence[str]], ssl.SSLContext]

_log = Log("wellhead.edge")


class Certificates:
    """``authority`` makes what no file has where ``mints`` is on; addresses and loopback names always.

    Contexts are kept, the least recently used dropped beyond ``contexts``.
    """

    def __init__(
        self,
        files: CertificateFiles,
        authority: LocalAuthority,
        *,
        mints: bool,
        reload_seconds: float = 30.0,
        contexts: int = CONTEXTS,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._files = files
        self._authority = authority
        self._mints = mints
        self._reload_seconds = reload_seconds
        self._contexts = contexts
        self._clock = clock
        self._table = Table()
        self._cache: OrderedDict[tuple[str, tuple[str, ...]], ssl.SSLContext] = OrderedDict()
        self._alarmed: dict[str, int] = {}  # fingerprint -> days of the last alarm
        self._looking = asyncio.Lock()
        self._due = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # The choice

    def choose(self, name: str | None, *, keep: bool = True) -> ContextFor | None:
        """What makes the context for a hostname, None where there is no certificate for it.

        ``name`` None: the caller sent none, and gets the certificate for addresses. Without ``keep`` the
        local CA keeps nothing of a name.
        """
        authority = self._authority
        pair = self._table.find(name, self._clock()) if name is not None else None
        if pair is not None:
            return lambda alpn: self._context(pair, tuple(alpn))
        if name is None or name == LOOPBACK:
            return authority.address_context
        if self._mints:
            return lambda alpn: authority.leaf_context(name, alpn, keep=keep)
        return None

    def is_new(self, name: str) -> bool:
        """Whether the local CA would have to make a certificate for a hostname now."""
        found = self._table.find(name, self._clock())
        return found is None and self._mints and not self._authority.keeps(name)

    def has(self, name: str) -> bool:
        """Whether a file has a certificate for a hostname that is not over."""
        now = self._clock()
        pair = self._table.find(name, now)
        return pair is not None and now < pair.ends

    def is_local(self, name: str) -> bool:
        """Whether the local CA vouches for a hostname, as things are."""
        return not self.has(name) and (self._mints or name == LOOPBACK)

    def _context(self, pair: KeyPair, alpn: tuple[str, ...]) -> ssl.SSLContext:
        key = pair.fingerprint, alpn
        context = self._cache.get(key)
        if context is None:
            context = self._cache[key] = pair.context(alpn)
            if len(self._cache) > self._contexts:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return context

    # What changes

    async def start(self) -> None:
        """Read what there is, and from then on what changes."""
        await self.reload()
        self._keeper = asyncio.create_task(self._keep(), name="certificates")

    async def close(self) -> None:
        """Look no more. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    def reload_soon(self) -> None:
        """Look at once: somebody says that a file is new."""
        self._due.set()

    async def reload(self) -> None:
        """Look now; when this returns, new handshakes get what is in the files."""
        async with self._looking:
            alpns = {alpn for _, alpn in self._cache}
            known = {pair.fingerprint for pair in self._table.pairs}
            found = await asyncio.to_thread(self._look, known, alpns)
            if found is not None:
                self._adopt(*found)
        self._alarm()

    def _look(
        self, known: set[str], alpns: set[tuple[str, ...]]
    ) -> tuple[Table, dict[tuple[str, tuple[str, ...]], ssl.SSLContext]] | None:
        """In a thread: what is there now, with the contexts that will be asked for first."""
        table = self._files.look(self._clock())
        if table is None:
            return None
        fresh = [pair for pair in table.pairs if pair.fingerprint not in known][: self._contexts // 2]
        return table, {(pair.fingerprint, alpn): pair.context(alpn) for pair in fresh for alpn in alpns}

    def _adopt(self, table: Table, contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext]) -> None:
        there = {pair.fingerprint for pair in table.pairs}
        for key in [key for key in self._cache if key[0] not in there]:
            del self._cache[key]
        self._cache.update(contexts)
        while len(self._cache) > self._contexts:
            self._cache.popitem(last=False)
        self._alarmed = {each: days for each, days in self._alarmed.items() if each in there}
        self._table = table

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._reload_seconds):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.reload()
            except Exception as error:  # what is served goes on being served
                _log.error("certificates were not read", error=error)

    # What ends

    def days_left(self) -> dict[str, float]:
        """Days until the end of each certificate, by its first name: of those that end first."""
        now = self._clock()
        # Of two with the same first name the one that ends first is told: it comes last here.
        pairs = sorted(self._table.pairs, key=lambda pair: pair.ends, reverse=True)[-SHOWN:]
        return {_first(pair): (pair.ends - now) / _DAY for pair in pairs}

    def _alarm(self) -> None:
        """Tell the operator, once for each step, of what ends soon and was not renewed."""
        now = self._clock()
        for pair in self._table.pairs:
            left = pair.ends - now
            step = alarm_step(left, pair.life)
            if step is None or self._alarmed.get(pair.fingerprint) == step:
                continue
            self._alarmed[pair.fingerprint] = step
            name, ends = _first(pair), f"{pair.ends:%Y-%m-%d %H:%M} UTC"
            if not step:
                _log.error("certificate is over", name=name, file=pair.source, ends=ends)
                continue
            tell = _log.error if step == ALARM_DAYS[-1] else _log.warning
            days = round(left / _DAY, 1)
            tell("certificate ends soon", name=name, file=pair.source, ends=ends, days_left=days)


def alarm_step(left: dt.timedelta, life: dt.timedelta) -> int | None:
    """The days of the alarm that is due so long before a certificate's end, 0: it is over; None: it is not.

    One that was made for a short life is not near its end from its beginning.
    """
    steps = (0, *reversed(ALARM_DAYS))
    return next((days for days in steps if left <= days * _DAY and life >= 2 * days * _DAY), None)


def _first(pair: KeyPair) -> str:
    """The name that a certificate is known by: the shortest, which is nearest to the domain."""
    return min(pair.names, key=lambda name: (len(name), name))
