"""What the server does about its own names: the authority is a stand-in that signs, refuses or is away."""

from __future__ import annotations

import asyncio
import datetime as dt
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wellhead import issued, private
from wellhead.control.issuing import issued as as_issued
from wellhead.control.renewal import Renewal
from wellhead.errors import IssuerError, RateLimited
from wellhead.model.certificates import Issued

DAY = dt.timedelta(days=1)
NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
WILDCARD, APEX = "*.example.org", "example.org"
NAME = "a.example.org"


class Authority:
    """Signs for ``life``, unless there is a ``failure``; chance is always a half."""

    def __init__(self) -> None:
        self.now = NOON
        self.life = 90 * DAY
        self.failure: Exception | None = None
        self.requests: list[x509.CertificateSigningRequest] = []
        self.replaced: list[str | None] = []
        self.suggested: dt.datetime | None = None
        self.foreign_key = False
        self._key = ec.generate_private_key(ec.SECP256R1())

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        self.requests.append(csr)
        self.replaced.append(replaces)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        signed = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([]))
            .public_key(self._key.public_key() if self.foreign_key else csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now)
            .not_valid_after(self.now + self.life)
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return as_issued(signed.public_bytes(Encoding.PEM).decode())

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        return self.suggested, self.now + DAY / 4

    def renewal_id(self, leaf_pem: str) -> str | None:
        return "its-id"


class Gate:
    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.refused: RateLimited | None = None
        self.ended: list[str | None] = []

    def allows(self, hostname: str) -> bool:
        return hostname in self.names

    async def begin(self, hostname: str) -> int:
        if self.refused is not None:
            raise self.refused
        return 7

    async def end(self, order: int, error: IssuerError | None) -> None:
        assert order == 7
        self.ended.append(None if error is None else error.reason)


class House:
    """A duty on a directory, begun anew by ``restart``; what it told is in ``told``."""

    def __init__(self, directory: Path, *own: tuple[str, ...]) -> None:
        self.authority, self.gate = Authority(), Gate()
        self.told: list[str] = []
        self.certificates = directory / "certificates"
        self.directory = directory / "acme"
        self._own = own
        self.restart()

    def restart(self) -> None:
        self.renewal = Renewal(
            self.authority,
            self.gate,
            self._own,
            certificates=self.certificates,
            directory=self.directory,
            told=self._tell,
            clock=lambda: self.authority.now,
            chance=lambda: 0.5,
        )

    async def _tell(self, name: str) -> None:
        self.told.append(name)

    async def look(self) -> dt.datetime:
        """Let it do what is due; when it would look again."""
        self.renewal.look()
        await self.renewal.idle()
        when = self.renewal.look()
        await self.renewal.idle()
        return when

    async def live(self, span: dt.timedelta, step: dt.timedelta) -> None:
        end = self.authority.now + span
        while self.authority.now < end:
            await self.look()
            self.authority.now += step

    def serial(self, name: str) -> int:
        return self.leaf(name).serial_number

    def leaf(self, name: str) -> x509.Certificate:
        files = issued.get(issued.entry_of(self.certificates, name))
        assert files is not None
        return x509.load_pem_x509_certificate(files.chain_pem.encode())


def away() -> IssuerError:
    return IssuerError("acme.example is away: connection refused", reason="away")


async def test_its_own_names_are_ordered_at_once_and_put_where_the_edge_reads_them(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX), ("zone.example.net",))
    await house.look()
    assert sorted(house.told) == [WILDCARD, "zone.example.net"]
    entry = issued.entry_of(house.certificates, WILDCARD)
    assert issued.meta(entry)["names"] == f"{WILDCARD} {APEX}"
    assert {stat.S_IMODE(file.stat().st_mode) for file in entry.iterdir()} == {0o600}
    assert not list((house.directory / "pending").iterdir())


async def test_a_restart_orders_nothing_that_is_there(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    await house.look()
    house.restart()
    await house.look()
    assert len(house.authority.requests) == 1


async def test_it_is_renewed_with_less_than_a_third_of_its_life_left_and_more_than_a_quarter(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    await house.look()
    first = house.leaf(WILDCARD)
    while house.serial(WILDCARD) == first.serial_number:
        house.authority.now += DAY / 4
        await house.look()
    left = first.not_valid_after_utc - house.authority.now
    assert house.authority.life / 4 < left <= house.authority.life / 3
    assert house.authority.replaced == [None, "its-id"]
    keys = {
        request.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for request in house.authority.requests
    }
    assert len(keys) == 2, "a renewed certificate has a new key"


async def test_it_is_renewed_when_the_authority_suggests_it(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    await house.look()
    first = house.serial(WILDCARD)
    house.authority.suggested = NOON + 3 * DAY
    await house.live(3 * DAY, DAY / 4)
    assert house.serial(WILDCARD) == first
    house.authority.suggested = None
    await house.look()
    assert house.serial(WILDCARD) != first


async def test_a_suggestion_for_the_last_hour_is_not_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    await house.look()
    first = house.leaf(WILDCARD)
    house.authority.suggested = first.not_valid_after_utc - DAY / 24
    while house.serial(WILDCARD) == first.serial_number:
        house.authority.now += DAY / 4
        await house.look()
    assert first.not_valid_after_utc - house.authority.now > house.authority.life / 11


async def test_while_the_authority_is_away_the_old_one_stays_and_then_it_heals_alone(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    await house.look()
    first = house.leaf(WILDCARD)
    house.authority.now = first.not_valid_after_utc - 35 * DAY
    house.authority.failure = away()
    await house.live(42 * DAY, DAY / 8)  # over a week past its end
    assert house.leaf(WILDCARD) == first and house.told == [WILDCARD]
    (state,) = house.renewal.states()
    assert state.failures > 3 and "is away" in state.reason
    assert state.days_left is not None and state.days_left < -6
    house.authority.failure = None
    await house.live(DAY / 2, DAY / 24)
    assert house.serial(WILDCARD) != first.serial_number and house.told == [WILDCARD] * 2
    assert house.renewal.states()[0].failures == 0


async def test_a_failing_name_is_tried_ever_more_rarely_and_always_by_the_same_request(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, (NAME,))
    house.authority.failure = IssuerError("refused", reason="refused")
    tries = []
    for _ in range(12):
        when = house.authority.now
        await house.look()
        tries.append(when)
        (state,) = house.renewal.states()
        assert state.days_left is None
        held = house.renewal._held[NAME]  # the moment itself is nowhere else
        assert held.not_before is not None
        house.authority.now = held.not_before
    pauses = [after - before for before, after in zip(tries, tries[1:], strict=False)]
    assert pauses[0] == dt.timedelta(minutes=1) and pauses[1] == 2 * pauses[0]
    assert pauses == sorted(pauses) and pauses[-1] == dt.timedelta(hours=6)
    assert len({request.signature for request in house.authority.requests}) == 1


async def test_what_the_authority_asks_for_is_waited(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,))
    house.authority.failure = IssuerError("slow down", reason="rate-limited", retry_after_seconds=7200)
    await house.look()
    house.authority.failure = None
    house.authority.now += dt.timedelta(seconds=7199)
    await house.look()
    assert len(house.authority.requests) == 1
    house.authority.now += dt.timedelta(seconds=1)
    await house.look()
    assert house.told == [NAME]


async def test_a_restart_neither_forgets_failures_nor_waits_long_for_them(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,))
    house.authority.failure = IssuerError("refused", reason="refused", retry_after_seconds=86400)
    await house.look()
    house.authority.failure = None
    house.restart()
    await house.look()
    assert len(house.authority.requests) == 1
    house.authority.now += dt.timedelta(minutes=5)
    await house.look()
    assert house.told == [NAME]
    assert len({request.signature for request in house.authority.requests}) == 1


async def test_a_short_life_is_renewed_within_it_and_tried_again_within_it(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,))
    house.authority.life = dt.timedelta(minutes=2)
    await house.look()
    for _ in range(3):
        before = house.leaf(NAME)
        house.authority.failure = away()
        house.authority.now = before.not_valid_after_utc - dt.timedelta(seconds=35)
        await house.look()
        house.authority.failure = None
        house.authority.now += dt.timedelta(seconds=6)
        await house.look()
        assert house.serial(NAME) != before.serial_number


# On demand


async def test_only_a_tunnels_name_is_ordered_on_demand_and_once(tmp_path: Path) -> None:
    house = House(tmp_path, (APEX,))
    house.gate.names = {NAME}
    for hostname in (NAME, "stranger.example.org", NAME, APEX):
        house.renewal.want(hostname)
    await house.look()
    house.renewal.want(NAME)
    await house.look()
    assert sorted(house.told) == [NAME, APEX] and house.gate.ended == [None]


async def test_a_name_that_the_wildcard_covers_is_not_ordered(tmp_path: Path) -> None:
    house = House(tmp_path, (WILDCARD, APEX))
    house.gate.names = {NAME}
    house.renewal.want(NAME)
    await house.look()
    assert house.told == [WILDCARD]


async def test_a_used_up_budget_puts_a_name_off_and_keeps_no_other_from_its_renewal(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate.names = {NAME, "b.example.org"}
    house.renewal.want("b.example.org")
    await house.look()
    house.gate.refused = RateLimited(429, "45 certificates in a week are allowed", retry_after_seconds=3600)
    house.renewal.want(NAME)
    await house.look()
    assert len(house.authority.requests) == 1
    house.authority.now += 65 * DAY
    await house.look()
    assert house.told == ["b.example.org"] * 2


async def test_a_refused_order_on_demand_is_counted_as_refused(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate.names = {NAME}
    house.authority.failure = IssuerError("no", reason="refused")
    house.renewal.want(NAME)
    await house.look()
    assert house.gate.ended == ["refused"]


async def test_a_name_whose_tunnel_is_gone_is_not_renewed_and_a_restart_knows_the_others(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    house.gate.names = {NAME, "b.example.org"}
    for hostname in sorted(house.gate.names):
        house.renewal.want(hostname)
    await house.look()
    house.gate.names = {NAME}
    house.restart()
    assert [state.name for state in house.renewal.states()] == [NAME]
    house.gate.names.clear()
    house.authority.now += 80 * DAY
    await house.look()
    assert house.renewal.states() == [] and len(house.authority.requests) == 2


async def test_what_was_issued_for_a_name_that_is_gone_is_removed_when_it_is_over(tmp_path: Path) -> None:
    house = House(tmp_path, (APEX,))
    house.gate.names = {NAME}
    house.renewal.want(NAME)
    await house.look()
    house.gate.names.clear()
    await house.look()
    entry = issued.entry_of(house.certificates, NAME)
    ends = house.leaf(NAME).not_valid_after_utc
    house.restart()
    house.authority.now = ends - DAY
    await house.look()
    assert issued.get(entry) is not None, "its tunnel may be restored"
    house.authority.now = ends
    await house.look()
    assert not entry.exists() and issued.get(issued.entry_of(house.certificates, APEX)) is not None
    house.gate.names = {NAME}
    house.renewal.want(NAME)
    await house.look()
    assert issued.get(entry) is not None


# What must not break it


async def test_a_certificate_whose_key_was_lost_is_made_anew(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,), (APEX,))
    await house.look()
    before = house.serial(NAME)
    other = issued.entry_of(house.certificates, APEX) / issued.KEY
    (issued.entry_of(house.certificates, NAME) / issued.KEY).write_text(other.read_text())
    house.restart()
    await house.look()
    assert house.serial(NAME) != before and len(house.authority.requests) == 3


async def test_a_certificate_for_another_key_is_not_put_in_place(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,))
    house.authority.foreign_key = True
    await house.look()
    assert house.told == [] and "is for another key or name" in house.renewal.states()[0].reason


@pytest.mark.parametrize(
    "text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_files_that_cannot_be_read_are_made_anew(tmp_path: Path, text: str) -> None:
    house = House(tmp_path, (NAME,))
    await house.look()
    private.write(issued.entry_of(house.certificates, NAME) / issued.CHAIN, text)
    private.write(house.directory / "pending" / f"{NAME}.pem", text)
    private.write(house.directory / "failures.json", text)
    house.restart()
    await house.look()
    assert house.told == [NAME, NAME]


async def test_a_fault_of_ours_ends_one_try_and_not_the_duty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path, (NAME,))

    house.authority.failure = ZeroDivisionError()
    await house.look()
    assert "renewal failed" in caplog.text
    house.authority.failure = None
    house.authority.now += dt.timedelta(minutes=2)
    await house.look()
    assert house.told == [NAME]


async def test_it_runs_by_itself_until_it_is_cancelled(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate.names = {NAME}
    running = asyncio.create_task(house.renewal.run())
    await asyncio.sleep(0)
    house.renewal.want(NAME)
    async with asyncio.timeout(10):
        while not house.told:  # noqa: ASYNC110 - the duty has no event for a test
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_is_renewed_for_the_asking_but_not_a_young_one(tmp_path: Path) -> None:
    house = House(tmp_path, (NAME,))
    await house.look()
    first = house.serial(NAME)
    (held,) = house.renewal.certificates()
    assert held.name == NAME and held.days_left is not None and held.expires_at is not None
    young = house.renewal.renew(NAME)
    assert young is not None and young > dt.timedelta()
    await house.look()
    assert house.serial(NAME) == first
    house.authority.now += young
    assert house.renewal.renew(NAME) is None
    await house.look()
    assert house.serial(NAME) != first
    with pytest.raises(KeyError):
        house.renewal.renew("other.example.org")
