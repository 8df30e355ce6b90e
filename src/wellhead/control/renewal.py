"""Certificates of the server's own names: ordered, renewed in time, kept while the authority is away.

A name comes into this by the settings, or because the edge wants it for a visitor. Its key and request lie in
a file until there is the certificate, so that a restart takes the same order up again; the pair is then put
where the edge reads it, in place of the one before, which serves until then whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from wellhead import issued, private
from wellhead.control.pending import Failed, Pending, names_of
from wellhead.control.renewal_plan import Life, covered, pause_after, renew_at
from wellhead.errors import ApiError, IssuerError, LocalStateError, WellheadError
from wellhead.logs import Log
from wellhead.model.certificates import Issued, ServerCertificate

LOOK_SECONDS: Final = 60.0  # the longest sleep: a wall clock may be put right meanwhile
ASK_WITHIN: Final = dt.timedelta(hours=6)  # after a certificate is held, when it would be renewed
RENEWED_AGAIN: Final = dt.timedelta(hours=6)  # after its issue, a certificate may be renewed for the asking
AT_ONCE: Final = 4  # orders
RESTART_PAUSE: Final = dt.timedelta(
    minutes=5
)  # the longest that a restart still waits for failures before it

_log = Log("wellhead.control")


class Authority(Protocol):
    """Who is asked: an ACME issuer."""

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued: ...

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        """When it would have the certificate renewed, None where it does not say; when to ask again."""

    def renewal_id(self, leaf_pem: str) -> str | None:
        """How it names a certificate that is to be replaced."""


class Gate(Protocol):
    """Which names may be ordered because somebody asked for them."""

    def allows(self, hostname: str) -> bool:
        """Whether an edge tunnel of that name exists."""

    async def begin(self, hostname: str) -> int:
        """Count an order before it is made.

        Raises:
            RateLimited: the budget is used up, or the name's last orders failed.
        """

    async def end(self, order: int, error: IssuerError | None) -> None:
        """Note what came of it."""


class _Held:
    """One certificate that is looked after; ``life`` None: there is none yet."""

    def __init__(self, names: tuple[str, ...], *, on_demand: bool) -> None:
        self.names = names
        self.on_demand = on_demand
        self.leaf_pem = ""
        self.life: Life | None = None
        self.share = 0.0  # chance, 0..1: when in its part of the life it is renewed
        self.suggested: dt.datetime | None = None
        self.ask_at: dt.datetime | None = None  # the authority, when it would be renewed
        self.failures = 0
        self.not_before: dt.datetime | None = None  # after a failure
        self.reason = ""  # of the last failure, as a sentence

    @property
    def name(self) -> str:
        return self.names[0]

    def days_left(self, now: dt.datetime) -> float | None:
        return None if self.life is None else (self.life.ends - now) / dt.timedelta(days=1)

    def due(self, now: dt.datetime) -> dt.datetime:
        """When it is to be ordered."""
        when = now if self.life is None else renew_at(self.life, self.share, self.suggested)
        return when if self.not_before is None else max(when, self.not_before)


class State(NamedTuple):
    """For metrics and people. ``days_left`` None: there is no certificate yet."""

    name: str
    days_left: float | None
    failures: int
    reason: str


class Renewal:
    """``told`` is called with a certificate's name when there is a new one in ``certificates``;
    ``on_held`` with each that is found there or comes; ``on_failing`` with how many names' last order failed.

    Raises:
        LocalStateError: a directory is unsafe.
    """

    def __init__(
        self,
        authority: Authority,
        gate: Gate,
        own: Iterable[tuple[str, ...]],
        *,
        certificates: Path,
        directory: Path,
        told: Callable[[str], Awaitable[None]],
        on_held: Callable[[str, x509.Certificate], None] = lambda name, leaf: None,
        on_failing: Callable[[int], None] = lambda names: None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._authority = authority
        self._gate = gate
        self._certificates = private.make_directory(certificates)
        self._pending = Pending(directory)
        self._told = told
        self._on_held = on_held
        self._on_failing = on_failing
        self._clock = clock
        self._chance = chance
        self._held: dict[str, _Held] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asking = asyncio.Semaphore(1)
        self._news = asyncio.Event()
        self._left = self._pending.failures()
        self._gone: dict[str, dt.datetime] = {}  # certificates that nobody needs any more: when they end
        for names in own:
            self._hold(_Held(names, on_demand=False))
        for entry in sorted(self._certificates.iterdir()):
            name = issued.meta(entry).get("name")
            if not isinstance(name, str) or name in self._held:
                continue
            if not self._covered(name) and gate.allows(name):
                self._hold(_Held((name,), on_demand=True))
            elif (leaf := self._leaf(name)) is not None:
                self._gone[name] = leaf.not_valid_after_utc
        self._keep_failures()

    def want(self, hostname: str) -> None:
        """Have a certificate for this name, if it may have one. Asking again changes nothing."""
        if self._covered(hostname) or not self._gate.allows(hostname):
            return
        self._hold(_Held((hostname,), on_demand=True))
        self._news.set()

    def states(self) -> list[State]:
        now = self._clock()
        return [
            State(held.name, held.days_left(now), held.failures, held.reason) for held in self._held.values()
        ]

    def certificates(self) -> list[ServerCertificate]:
        """All that it looks after, as people see them."""
        now = self._clock()
        return [
            ServerCertificate(
                held.name,
                None if held.life is None else held.life.ends,
                held.days_left(now),
                held.failures,
                held.reason,
            )
            for held in self._held.values()
        ]

    def renew(self, name: str) -> dt.timedelta | None:
        """Order a certificate anew now, whatever is left of the one before.

        Gives how long to wait where that one is younger than RENEWED_AGAIN, and so is kept.

        Raises:
            KeyError: none of that name is looked after.
        """
        held, now = self._held[name], self._clock()
        if held.life is not None:
            young = held.life.begins + min(RENEWED_AGAIN, held.life.length / 3) - now
            if young > dt.timedelta():
                return young
            held.suggested = now
        held.not_before = None
        self._news.set()
        return None

    async def run(self) -> None:
        """Look after all of it, until cancelled."""
        try:
            while True:
                self._news.clear()
                try:
                    wait = (self.look() - self._clock()).total_seconds()
                except Exception as error:  # a bug here must not end the duty for good
                    _log.error("renewal failed", error)
                    wait = LOOK_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(wait, 0.0), LOOK_SECONDS)):
                        await self._news.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Give up what runs; it is taken up again at the next start."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def idle(self) -> None:
        """Return when nothing that was begun runs any more."""
        while self._running:
            await asyncio.gather(*self._running.values())

    def look(self) -> dt.datetime:
        """Begin what is due; when to look again."""
        now = self._clock()
        soonest = now + dt.timedelta(seconds=LOOK_SECONDS)
        for held in list(self._held.values()):
            if held.on_demand and not self._gate.allows(held.name):
                del self._held[held.name]  # what was issued for it ends by itself
                if held.life is not None:
                    self._gone[held.name] = held.life.ends
                self._keep_failures()
                continue
            if held.name in self._running:
                continue
            if held.due(now) <= now:
                self._begin(held, self._renew(held), self._turns)
            elif held.ask_at is not None and held.ask_at <= now:
                self._begin(held, self._ask(held), self._asking)
            else:
                soonest = min(filter(None, (soonest, held.due(now), held.ask_at)))
        self._clear_away(now)
        return soonest

    def _clear_away(self, now: dt.datetime) -> None:
        """Remove what is over and was not renewed on purpose: the edge would tell of its end for ever."""
        for name in [name for name, ends in self._gone.items() if ends <= now]:
            del self._gone[name]
            try:
                issued.drop(self._certificates, name)
            except LocalStateError as error:
                _log.warning("certificate not removed", name=name, reason=str(error))

    def _begin(self, held: _Held, work: Coroutine[Any, Any, None], turns: asyncio.Semaphore) -> None:
        async def in_turn() -> None:
            try:
                async with turns:
                    await work
            except Exception as error:  # a bug here must not end the duty for all names
                self._failed(held, IssuerError(f"{type(error).__name__}: {error}", reason="failed"))
                _log.error("renewal failed", error, name=held.name)
            finally:
                work.close()  # it may be that its turn never came
                del self._running[held.name]
                self._news.set()

        self._running[held.name] = asyncio.create_task(in_turn(), name=f"renewal of {held.name}")

    def _covered(self, hostname: str) -> bool:
        return any(covered(hostname, held.names) for held in self._held.values())

    # What is there

    def _hold(self, held: _Held) -> None:
        """Take a name up as it was left."""
        self._held[held.name] = held
        self._gone.pop(held.name, None)
        leaf = self._leaf(held.name)
        if leaf is not None and names_of(leaf) == set(held.names):
            self._live(held, leaf)
        if (failed := self._left.pop(held.name, None)) is not None:
            held.failures = failed.in_a_row
            held.not_before = min(failed.not_before, self._clock() + RESTART_PAUSE)

    def _leaf(self, name: str) -> x509.Certificate | None:
        """The certificate that the edge has of a name, None where it has none that it can show."""
        try:
            files = issued.get(issued.entry_of(self._certificates, name))
            if files is None:
                return None
            leaf = x509.load_pem_x509_certificate(files.chain_pem.encode())
            keys = [load_pem_private_key(pem.encode(), password=None).public_key() for pem in files.keys]
        except (LocalStateError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            _log.warning("certificate is made anew", name=name, reason=str(error))
            return None
        if leaf.public_key() not in keys:
            _log.warning("certificate is made anew", name=name, reason="its key is not the one beside it")
            return None
        return leaf

    def _live(self, held: _Held, leaf: x509.Certificate) -> None:
        held.leaf_pem = leaf.public_bytes(Encoding.PEM).decode()
        held.life = Life(leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        held.share = self._chance()
        held.suggested = None
        # Not all at once after a restart, and soon beside the time that it lives.
        held.ask_at = self._clock() + min(ASK_WITHIN, held.life.length / 50) * self._chance()
        self._on_held(held.name, leaf)

    # What is done

    async def _renew(self, held: _Held) -> None:
        try:
            made, key_pem = await (self._on_demand(held) if held.on_demand else self._order(held))
            issued.put(
                self._certificates,
                held.name,
                chain_pem=made.leaf_pem + made.chain_pem,
                key_pem=key_pem,
                meta={"names": " ".join(held.names), "issuer": "acme", "ends": made.expires_at.isoformat()},
            )
        except (IssuerError, ApiError, LocalStateError) as error:
            self._failed(held, error)
            return
        self._pending.forget(held.name)
        first = held.life is None
        self._live(held, x509.load_pem_x509_certificate(made.leaf_pem.encode()))
        held.failures, held.not_before, held.reason = 0, None, ""
        self._keep_failures()
        await self._told(held.name)
        _log.info(
            "certificate issued" if first else "certificate renewed",
            names=",".join(held.names), ends=made.expires_at.isoformat(), serial=made.serial,
        )  # fmt: skip

    async def _on_demand(self, held: _Held) -> tuple[Issued, str]:
        if held.life is not None:  # authorities do not count renewals
            return await self._order(held)
        number = await self._gate.begin(held.name)
        try:
            made = await self._order(held)
        except IssuerError as error:
            await self._gate.end(number, error)
            raise
        await self._gate.end(number, None)
        return made

    async def _order(self, held: _Held) -> tuple[Issued, str]:
        key_pem, request = self._pending.request(held.names)
        replaces = self._authority.renewal_id(held.leaf_pem) if held.leaf_pem else None
        made = await self._authority.issue(request, held.names, replaces)
        leaf = x509.load_pem_x509_certificate(made.leaf_pem.encode())
        if leaf.public_key() != request.public_key() or not set(held.names) <= names_of(leaf):
            raise IssuerError(
                f"the certificate for {', '.join(held.names)} is for another key or name", reason="bad-answer"
            )
        return made, key_pem

    async def _ask(self, held: _Held) -> None:
        """When the authority would have it renewed (RFC 9773)."""
        now = self._clock()
        try:
            held.suggested, held.ask_at = await self._authority.renewal_time(held.leaf_pem)
        except IssuerError as error:
            held.ask_at = now + dt.timedelta(seconds=max(error.retry_after_seconds or 0.0, LOOK_SECONDS * 60))
            _log.warning("renewal information missing", name=held.name, reason=str(error))
        held.ask_at = max(held.ask_at, now + dt.timedelta(seconds=LOOK_SECONDS))

    def _failed(self, held: _Held, error: WellheadError) -> None:
        held.failures += 1
        held.reason = str(error)
        reason = getattr(error, "reason", "refused")
        asked = getattr(error, "retry_after_seconds", None)
        pause = pause_after(held.failures, reason, self._chance(), held.life, asked)
        held.not_before = self._clock() + pause
        self._keep_failures()
        _log.warning(
            "certificate not issued",
            name=held.name, reason=reason, said=held.reason, failures=held.failures,
            again_in_seconds=pause.total_seconds(), days_left=held.days_left(self._clock()),
        )  # fmt: skip

    def _keep_failures(self) -> None:
        failing = {
            held.name: Failed(held.failures, held.not_before)
            for held in self._held.values()
            if held.not_before is not None
        }
        self._pending.keep_failures(failing)
        self._on_failing(len(failing))
