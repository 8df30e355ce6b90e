from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.kit.certs import DAY, HOUR, Root, authority, client_hello, handshake, names_of, shown, trusting
from wellhead import issued
from wellhead.net.authority import LocalAuthority
from wellhead.net.certificate_files import CertificateFiles
from wellhead.net.certificates import SHOWN, Certificates

ROOT = Root()
ALPN = ("h2", "http/1.1")


class Clock:
    """A time that a test moves; it begins at the real one."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead


class House:
    """Certificates over two directories of a test: ``issued`` and, for one pair, the operator's."""

    def __init__(self, directory: Path, *, mints: bool = True, contexts: int = 16) -> None:
        self.directory = directory
        self.clock = Clock()
        self.ca: LocalAuthority = authority(directory)
        self.operators = ROOT.put(directory, "own", ROOT.pair("own.x.org"))
        self.certificates = Certificates(
            CertificateFiles([self.operators], directory / "issued"), self.ca, mints=mints,
            reload_seconds=3600, contexts=contexts, clock=self.clock,
        )  # fmt: skip

    def put(self, *names: str, begins: dt.timedelta = -HOUR, ends: dt.timedelta = 90 * DAY) -> None:
        chain, key = ROOT.pair(*names, begins=begins, ends=ends)
        issued.put(self.directory / "issued", names[0], chain_pem=chain, key_pem=key, meta={})

    def context(self, name: str | None) -> ssl.SSLContext:
        make = self.certificates.choose(name)
        assert make is not None
        return make(ALPN)

    def serial(self, name: str) -> int:
        """Of the certificate that a visitor of this name is shown and accepts."""
        return shown(handshake(self.context(name), ROOT.trust(), name)).serial_number


async def wait_for(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110  # what is claimed tells nobody
            await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.certificates.reload()
    yield made
    await made.certificates.close()


async def test_each_name_gets_its_own_certificate(house: House) -> None:
    house.put("*.x.org")
    house.put("a.x.org")
    await house.certificates.reload()
    for name, certified in (("own.x.org", "own.x.org"), ("a.x.org", "a.x.org"), ("b.x.org", "*.x.org")):
        assert names_of(shown(handshake(house.context(name), ROOT.trust(), name))) == [certified]


async def test_what_no_file_has_the_local_ca_makes_if_it_may(house: House, tmp_path: Path) -> None:
    found = handshake(house.context("c.y.org"), trusting(house.ca), "c.y.org")
    assert names_of(shown(found)) == ["c.y.org"]
    assert not house.certificates.has("c.y.org") and house.certificates.has("own.x.org")
    without = House(tmp_path / "without", mints=False)
    await without.certificates.reload()
    assert without.certificates.choose("c.y.org") is None
    assert without.certificates.choose("own.x.org") is not None


@pytest.mark.parametrize("name", [None, "localhost"])
async def test_addresses_and_this_machines_name_have_the_local_cas(tmp_path: Path, name: str | None) -> None:
    house = House(tmp_path, mints=False)
    assert "127.0.0.1" in names_of(shown(handshake(house.context(name), trusting(house.ca), "localhost")))


async def test_a_context_is_made_once_and_again_when_the_certificate_is_new(house: House) -> None:
    first = house.context("own.x.org")
    assert house.context("own.x.org") is first
    await house.certificates.reload()
    assert house.context("own.x.org") is first
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org"))
    await house.certificates.reload()
    assert house.context("own.x.org") is not first


async def test_a_new_certificates_context_is_made_before_anybody_asks_for_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.context("own.x.org")
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org"))
    await house.certificates.reload()

    def never(*_: object) -> None:
        raise AssertionError("made on the path of a handshake")

    monkeypatch.setattr("wellhead.net.keypair.server_context", never)
    house.context("own.x.org")


async def test_contexts_are_bounded_and_the_least_used_goes_first(tmp_path: Path) -> None:
    house = House(tmp_path, contexts=2)
    for name in ("a.org", "b.org"):
        house.put(name)
    await house.certificates.reload()
    first = house.context("own.x.org")
    house.context("a.org")
    assert house.context("own.x.org") is first
    house.context("b.org")
    assert house.context("own.x.org") is first
    house.context("a.org")
    house.context("b.org")
    assert house.context("own.x.org") is not first


async def test_a_connection_goes_on_with_the_certificate_it_began_with(house: House) -> None:
    """Contexts are replaced, never changed: what is open does not notice."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = house.context("own.x.org").wrap_bio(to_server, to_client, server_side=True)
    client = ROOT.trust().wrap_bio(to_client, to_server, server_hostname="own.x.org")
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    before = house.serial("own.x.org")
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org"))
    await house.certificates.reload()
    assert house.serial("own.x.org") != before
    client.write(b"still there")
    assert server.read(100) == b"still there"
    server.write(b"yes")
    assert client.read(100) == b"yes"
    assert shown(client).serial_number == before


async def test_a_reload_that_is_asked_for_does_not_wait_for_its_time(house: House) -> None:
    await house.certificates.start()
    before = house.serial("own.x.org")
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org"))
    house.certificates.reload_soon()
    await wait_for(lambda: house.serial("own.x.org") != before)


async def test_files_are_looked_at_by_themselves(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.certificates._reload_seconds = 0.001
    await house.certificates.start()
    house.put("a.org")
    await wait_for(lambda: house.certificates.has("a.org"))
    await house.certificates.close()


async def test_a_fault_while_reading_ends_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.certificates.start()
    look, calls = house.certificates._files.look, 0

    def failing(now: dt.datetime) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug")
        return look(now)

    house.certificates._files.look = failing  # type: ignore[method-assign,assignment]  # a fault of ours
    before = house.serial("own.x.org")
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org"))
    async with asyncio.timeout(10):
        while house.serial("own.x.org") == before:
            house.certificates.reload_soon()
            await asyncio.sleep(0.001)
    assert "certificates were not read" in caplog.text


async def test_days_left_are_told_of_those_that_end_first(house: House) -> None:
    house.put("*.y.org", "y.org", ends=30 * DAY)
    await house.certificates.reload()
    left = house.certificates.days_left()
    assert left.keys() == {"own.x.org", "y.org"}
    assert 29.9 < left["y.org"] < 30.1 and 89.9 < left["own.x.org"] < 90.1
    house.clock.ahead = 31 * DAY
    assert -1.1 < house.certificates.days_left()["y.org"] < -0.9


async def test_the_names_that_are_told_are_bounded(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(SHOWN + 5):
        house.put(f"n{number}.org", ends=(100 + number) * DAY)
    await house.certificates.reload()
    left = house.certificates.days_left()
    assert len(left) == SHOWN and {"own.x.org", "n0.org"} <= left.keys() and "n104.org" not in left


async def test_an_end_that_comes_is_told_at_fourteen_seven_and_one_day_and_when_it_is_there(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A week without an authority: each step is told once, the old certificate stays, a new one heals it."""

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if "certificate " in record.getMessage()]
        caplog.clear()
        return [f"{line.split(' name=')[0]} {line.split('days_left=')[-1]}" for line in lines]

    before = house.serial("own.x.org")
    steps = {}
    caplog.clear()
    for hour in range(0, 91 * 24 + 1, 6):
        house.clock.ahead = dt.timedelta(hours=hour)
        await house.certificates.reload()
        if lines := told():
            steps[hour / 24] = lines
    assert steps == {
        76: ["certificate ends soon 14"],
        83: ["certificate ends soon 7"],
        89: ["certificate ends soon 1"],
        90: [steps[90][0]],
    }
    assert steps[90][0].startswith("certificate is over")
    make = house.certificates.choose("own.x.org")
    assert make is not None and not house.certificates.has("own.x.org")
    client = ROOT.trust()
    assert shown(handshake(make(ALPN), client, "own.x.org")).serial_number == before
    ROOT.put(house.directory, "own", ROOT.pair("own.x.org", ends=200 * DAY))
    await house.certificates.reload()
    assert told() == []
    assert house.serial("own.x.org") != before


async def test_a_certificate_of_a_short_life_is_not_near_its_end_from_its_beginning(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.put("a.org", ends=6 * DAY)
    house.put("b.org", begins=-HOUR / 60, ends=HOUR / 30)
    caplog.clear()
    await house.certificates.reload()
    assert "ends soon" not in caplog.text
    house.clock.ahead = 5.5 * DAY
    await house.certificates.reload()
    soon = [record.getMessage() for record in caplog.records if "ends soon" in record.getMessage()]
    assert len(soon) == 1 and "name=a.org" in soon[0]
    assert "certificate is over name=b.org" in caplog.text


def offered(server: ssl.SSLContext, hello: bytes) -> x509.Certificate:
    """The certificate in a server's answer to a ClientHello of TLS 1.2, which has it in clear."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        server.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    data, messages = outgoing.read(), b""
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        messages, data = messages + data[5:end], data[end:]
    while messages[0] != 11:
        messages = messages[4 + int.from_bytes(messages[1:4], "big") :]
    return x509.load_der_x509_certificate(messages[10 : 10 + int.from_bytes(messages[7:10], "big")])


async def test_ten_thousand_visitors_during_a_hundred_reloads_see_no_other_names_certificate(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is looked at; every tenth handshake is done to its end, by a client that verifies."""
    monkeypatch.setattr("os.fsync", lambda number: None)  # no power is lost here
    names = [f"n{number}.x.org" for number in range(20)]
    hellos = {name: client_hello(name, only=ssl.TLSVersion.TLSv1_2) for name in names}
    house.put("*.x.org")
    for name in names[:10]:
        house.put(name)
    await house.certificates.reload()
    client = ROOT.trust()
    seen: set[int] = set()

    def shake(name: str, whole: bool) -> None:
        context = house.context(name)
        found = shown(handshake(context, client, name)) if whole else offered(context, hellos[name])
        assert names_of(found) == ([name] if name in names[:10] else ["*.x.org"])
        seen.add(found.serial_number)

    for turn in range(100):
        house.put(names[turn % 10])
        if turn % 10 == 0:
            house.put("*.x.org")
        reload = asyncio.ensure_future(house.certificates.reload())
        for number in range(100):
            shake(names[(turn + number) % 20], number % 10 == 0)
            if number % 10 == 0:
                await asyncio.sleep(0)
        await reload
    assert len(seen) > 100
