"""A certificate over months, in no time: the clock is the test's, and sleeping moves it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.certs import DAY, HOUR
from tests.kit.signing import NAME, Signed, Signer, files_in, now, public_key
from wellhead.agent.certificate import CHAIN, CertificateFiles
from wellhead.agent.renewal import Renewal, Standing
from wellhead.errors import DialError, LocalStateError, RateLimited, Unavailable
from wellhead.net.keypair import KeyPair

LIFE = 90 * DAY


class Months:
    """A renewal whose clock is moved by its own sleeping, until ``end``."""

    def __init__(self, files: CertificateFiles, signer: Signer, *, chance: float = 0.5) -> None:
        self.files = files
        self.signer = signer
        self.signer.clock = self.clock
        self.time = now()
        self.slept: list[float] = []
        self.used: list[tuple[dt.datetime, KeyPair]] = []
        self._end = self.time
        self.told: list[tuple[dt.datetime, Exception | None]] = []
        self.standing: dict[str, Standing] = {}
        self.looks = 0
        self.away: Exception | None = None
        self.unusable: list[Exception] = []
        self.renewal = Renewal(
            files,
            signer,
            self._look,
            on_certificate=lambda ends, error: self.told.append((ends, error)),
            clock=self.clock,
            sleep=self._sleep,
            uniform=lambda a, b: a + (b - a) * chance,
        )

    def clock(self) -> dt.datetime:
        return self.time

    async def _look(self, fingerprint: str) -> Standing:
        self.looks += 1
        if self.away is not None:
            raise self.away
        return self.standing.get(fingerprint, Standing())

    async def _sleep(self, seconds: float) -> None:
        if self.time >= self._end:
            raise asyncio.CancelledError
        self.slept.append(seconds)
        self.time += dt.timedelta(seconds=seconds)

    async def pass_(self, span: dt.timedelta) -> None:
        """Let so much time go by while the tunnel is answered for."""
        self._end = self.time + span
        with pytest.raises(asyncio.CancelledError):
            await self.renewal.run(self._use)

    def _use(self, pair: KeyPair) -> None:
        if self.unusable:
            raise self.unusable.pop()
        self.used.append((self.time, pair))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Months]:
    def months(chance: float = 0.5) -> Months:
        return Months(files_in(tmp_path), Signer(), chance=chance)

    return months


Make = Callable[..., Months]


async def test_the_first_start_has_a_certificate_signed_and_the_next_one_finds_it(make: Make) -> None:
    first = make()
    pair = await first.renewal.first()
    second = make()
    assert (await second.renewal.first()).fingerprint == pair.fingerprint
    assert len(first.signer.asked) == 1 and not second.signer.asked


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_it_is_renewed_before_a_third_of_its_life_is_left(make: Make, chance: float) -> None:
    months = make(chance)
    began = months.time
    await months.renewal.first()
    await months.pass_(61 * DAY)
    ((renewed, pair),) = months.used
    assert 0.56 * LIFE <= renewed - began <= LIFE * 2 / 3 + HOUR
    assert pair.ends > renewed + LIFE - HOUR
    kept = months.files.load(months.time)
    assert kept is not None and kept.fingerprint == pair.fingerprint


async def test_agents_that_began_together_do_not_renew_together(make: Make) -> None:
    moments = []
    for chance in (0.0, 1.0):
        months = make(chance)
        await months.renewal.first(fresh=True)
        await months.pass_(61 * DAY)
        moments.append(months.used[0][0])
    assert abs(moments[1] - moments[0]) > 8 * DAY


async def test_a_year_of_renewals_never_leaves_the_tunnel_without_a_good_certificate(make: Make) -> None:
    months = make()
    shown = await months.renewal.first()
    await months.pass_(365 * DAY)
    for moment, pair in months.used:
        assert shown.ends > moment, "the one before had ended"
        shown = pair
    assert 5 <= len(months.used) <= 7
    assert len({public_key(pem) for pem in months.signer.asked}) == 1, "the key stays"
    assert len(set(months.signer.asked)) == len(months.signer.asked), "each renewal is an order of its own"


async def test_a_renewal_that_is_due_at_the_start_does_not_hold_up_the_start(make: Make) -> None:
    months = make()
    pair = await months.renewal.first()
    months.time += 80 * DAY
    late = Months(months.files, months.signer)
    late.time = months.time
    assert (await late.renewal.first()).fingerprint == pair.fingerprint
    await late.pass_(HOUR)
    assert len(late.used) == 1 and late.used[0][0] - months.time < HOUR


async def test_while_the_authority_is_away_the_old_one_stays_and_it_is_asked_again_at_a_growing_pace(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    months = make()
    await months.renewal.first()
    months.signer.failures = [Unavailable(503, "the issuer is away") for _ in range(40)]
    await months.pass_(61 * DAY)
    assert len(months.signer.asked) == 42 and len(months.used) == 1, "it heals by itself"
    assert len(set(months.signer.asked[1:])) == 1, "one order, however often it is asked for"
    asked_within = months.used[0][0] - (months.time - 61 * DAY)
    assert 56 * DAY < asked_within < 61 * DAY
    assert "certificate not renewed" in caplog.text and "days_left=3" in caplog.text
    assert caplog.text.count("again_seconds=3600") > 30


async def test_a_year_without_an_authority_is_a_year_of_tries_and_of_errors_in_the_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    months = make()
    await months.renewal.first()
    months.signer.failures = [DialError("no route") for _ in range(10_000)]
    await months.pass_(95 * DAY)
    assert not months.used and 500 < len(months.signer.asked) < 5_000
    assert any(record.levelname == "ERROR" for record in caplog.records)


async def test_it_waits_as_long_as_the_server_asks_for(make: Make) -> None:
    months = make()
    await months.renewal.first()
    months.signer.failures = [RateLimited(429, "budget", retry_after_seconds=6 * 3600)]
    await months.pass_(61 * DAY)
    at_once = make()
    await at_once.renewal.first(fresh=True)
    await at_once.pass_(61 * DAY)
    ((late, _),), ((early, _),) = months.used, at_once.used
    assert 6 * HOUR <= (late - months.time) - (early - at_once.time) < 7 * HOUR


async def test_a_life_of_two_minutes_is_renewed_in_time_though_it_is_dated_back_an_hour(make: Make) -> None:
    months = make()
    months.signer.life = dt.timedelta(minutes=2)
    await months.renewal.first()
    await months.pass_(dt.timedelta(minutes=12))
    assert 8 <= len(months.used) <= 12


async def test_a_short_life_is_tried_often_enough_when_its_authority_fails(make: Make) -> None:
    months = make()
    months.signer.life = dt.timedelta(minutes=2)
    first = await months.renewal.first()
    months.signer.failures = [Unavailable(503, "the issuer is away") for _ in range(6)]
    await months.pass_(dt.timedelta(minutes=2))
    assert months.used and months.used[0][0] < first.ends


@pytest.mark.parametrize("broken", ["key", "expired", "chain"])
async def test_what_does_not_fit_at_the_start_is_signed_anew(make: Make, broken: str) -> None:
    months = make()
    before = await months.renewal.first()
    if broken == "key":
        months.files.new_key()
    elif broken == "chain":
        (months.files.directory / CHAIN).write_text("garbage")
    else:
        months.time += 91 * DAY
    again = Months(months.files, months.signer)
    again.time = months.time
    pair = await again.renewal.first()
    assert pair.fingerprint != before.fingerprint and len(months.signer.asked) == 2


async def test_a_revoked_certificate_is_replaced_with_its_key(make: Make) -> None:
    months = make()
    pair = await months.renewal.first()
    months.standing[pair.fingerprint] = Standing(revoked=True)
    assert (await months.renewal.first()).fingerprint != pair.fingerprint
    first, second = months.signer.asked
    assert public_key(first) != public_key(second)


async def test_where_the_server_knows_of_none_what_is_kept_was_another_tunnels(make: Make) -> None:
    months = make()
    await months.renewal.first(fresh=True)
    await months.renewal.first(fresh=True)
    first, second = months.signer.asked
    assert public_key(first) != public_key(second)


async def test_a_server_that_cannot_be_asked_holds_up_no_start(make: Make) -> None:
    months = make()
    pair = await months.renewal.first()
    months.away = DialError("no route")
    assert (await months.renewal.first()).fingerprint == pair.fingerprint


async def test_it_is_renewed_when_the_server_says_so(make: Make) -> None:
    months = make()
    pair = await months.renewal.first()
    began = months.time
    months.standing[pair.fingerprint] = Standing(renew_at=began)
    await months.pass_(HOUR)
    assert len(months.used) == 1 and months.used[0][0] - began <= HOUR / 2
    assert months.looks <= 6


async def test_a_new_certificate_that_cannot_be_shown_yet_is_shown_later_and_not_signed_again(
    make: Make,
) -> None:
    months = make()
    await months.renewal.first()
    months.unusable = [OSError(24, "Too many open files")] * 2
    await months.pass_(61 * DAY)
    ((shown_at, pair),) = months.used
    assert len(months.signer.asked) == 2 and pair.begins > shown_at - 2 * HOUR


async def test_a_fault_in_asking_the_server_ends_no_renewals(make: Make) -> None:
    months = make()
    await months.renewal.first()
    months.away = RuntimeError("a bug")
    await months.pass_(2 * HOUR)
    assert months.looks > 2


async def test_renewals_and_failures_are_told(make: Make) -> None:
    months = make()
    first = await months.renewal.first()
    away = Unavailable(503, "the issuer is away")
    months.signer.failures = [away]
    await months.pass_(61 * DAY)
    assert months.told == [(first.ends, away), (months.used[0][1].ends, None)]


async def test_without_any_certificate_a_refusal_is_the_callers_to_hear(make: Make) -> None:
    months = make()
    months.signer.failures = [Unavailable(503, "the issuer is away")]
    with pytest.raises(Unavailable):
        await months.renewal.first()
    await months.renewal.first()
    assert months.signer.asked[0] == months.signer.asked[1], "the same order"


async def test_two_agents_that_begin_at_once_both_have_a_certificate(tmp_path: Path) -> None:
    files, signer = files_in(tmp_path), Signer()

    async def sign_while_another_makes_its_key(csr_pem: str) -> Signed:
        files.new_key()
        return await signer(csr_pem)

    async def look(fingerprint: str) -> Standing:
        return Standing()

    pair = await Renewal(files, sign_while_another_makes_its_key, look).first()
    assert pair.names == {NAME}


async def test_an_answer_that_does_not_fit_is_refused(make: Make) -> None:
    months = make()
    months.signer.life = -HOUR / 2
    with pytest.raises(LocalStateError):
        await months.renewal.first()
