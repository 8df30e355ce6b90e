"""Certificates by ACME: Pebble as the authority, BIND, a program and moto as the DNS it looks into."""

from __future__ import annotations

import asyncio
import contextlib
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import dns.message
import dns.query
import dns.rdatatype
import pytest
from aiohttp import web
from cryptography import x509

from tests.kit.acme_answers import Answers, answering
from tests.kit.bind import KEY_NAME, PRIMARY, SECONDARY, SECRET, NameServer
from tests.kit.csr import request_for
from tests.kit.pebble import ChallengeDns, Pebble
from tests.kit.programs import quiet_port
from wellhead import private
from wellhead.control.acme_account import Account, ExternalAccount
from wellhead.control.acme_client import AcmeClient
from wellhead.control.acme_hook import Hook
from wellhead.control.acme_issuer import AcmeIssuer
from wellhead.control.acme_order import Orders
from wellhead.control.acme_proof import AlpnProver, DnsProver, HttpProver, Prover, Records
from wellhead.control.acme_rfc2136 import DnsUpdates, TsigKey
from wellhead.control.acme_route53 import Route53
from wellhead.control.dns_servers import Aliases
from wellhead.errors import IssuerError

pytestmark = [pytest.mark.system, pytest.mark.needs("pebble", "pebble-challtestsrv", "named")]

ZONE = "example.test"
NAME = f"a.{ZONE}"


@pytest.fixture(scope="module")
def challenge_dns() -> Iterator[ChallengeDns]:
    with ChallengeDns() as program:
        yield program


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    async with answering() as answers:
        yield answers


@pytest.fixture
def pebble(tmp_path: Path, answers: Answers, challenge_dns: ChallengeDns) -> Iterator[Pebble]:
    http, tls = answers.ports
    with Pebble(tmp_path / "pebble", http=http, tls=tls, dns=challenge_dns.port) as program:
        yield program


def issuer(
    directory: Path,
    pebble: Pebble,
    prover: Prover,
    *,
    external: ExternalAccount | None = None,
    seconds: float = 60.0,
) -> AcmeIssuer:
    client = AcmeClient(pebble.directory, pebble.ca_file)
    account = Account(directory / "acme", client, contact="hostmaster@example.test", external=external)
    return AcmeIssuer(
        client, account, Orders(client, account, prover, directory / "acme" / "orders", order_seconds=seconds)
    )


def signed_by(pebble: Pebble, leaf_pem: str, chain_pem: str) -> list[str]:
    """The names of a certificate, whose chain ends at the authority's root."""
    certificates = x509.load_pem_x509_certificates((leaf_pem + chain_pem + pebble.root()).encode())
    for certificate, above in zip(certificates, certificates[1:], strict=False):
        certificate.verify_directly_issued_by(above)
    names = certificates[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize("prover", [HttpProver, AlpnProver])
async def test_a_name_is_proved_at_its_own_port_and_nothing_of_the_proof_stays(
    tmp_path: Path, pebble: Pebble, answers: Answers, prover: type[HttpProver | AlpnProver]
) -> None:
    made = await issuer(tmp_path, pebble, prover(answers)).issue(request_for(NAME), [NAME])
    assert signed_by(pebble, made.leaf_pem, made.chain_pem) == [NAME]
    assert set(answers.asked) == {NAME} and answers.empty


async def test_the_same_request_has_the_same_order_however_often_it_comes(
    tmp_path: Path, pebble: Pebble, answers: Answers
) -> None:
    request = request_for(NAME)
    first = issuer(tmp_path, pebble, HttpProver(answers))
    gone = asyncio.create_task(first.issue(request, [NAME]))
    await asyncio.sleep(0)
    gone.cancel()
    made = await asyncio.gather(*(first.issue(request, [NAME]) for _ in range(5)))
    restarted = issuer(tmp_path, pebble, HttpProver(answers))
    assert {one.serial for one in [*made, await restarted.issue(request, [NAME])]} == {made[0].serial}
    assert pebble.orders == 1


async def test_an_order_that_was_cut_off_is_taken_up_at_its_url(
    tmp_path: Path, pebble: Pebble, answers: Answers
) -> None:
    request, hangs = request_for(NAME), _Hanging()
    cut = issuer(tmp_path, pebble, hangs)
    waiting = asyncio.create_task(cut.issue(request, [NAME]))
    async with asyncio.timeout(30):
        await hangs.there.wait()
        await cut.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert hangs.removed
    made = await issuer(tmp_path, pebble, HttpProver(answers)).issue(request, [NAME])
    assert signed_by(pebble, made.leaf_pem, made.chain_pem) == [NAME]
    assert pebble.orders == 1


class _Hanging:
    kind = "http-01"

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.removed = False

    async def put(self, _: object) -> None:
        self.there.set()
        await asyncio.Event().wait()

    async def remove(self, _: object) -> None:
        self.removed = True


async def test_a_proof_that_is_not_found_is_told_with_the_authoritys_reason(
    tmp_path: Path, pebble: Pebble, answers: Answers
) -> None:
    class Wrong(HttpProver):
        async def put(self, proof: Any) -> None:
            await super().put(proof._replace(answer="something else"))

    with pytest.raises(IssuerError, match=rf"{NAME} is not proved: (unauthorized|incorrectResponse)") as told:
        await issuer(tmp_path, pebble, Wrong(answers)).issue(request_for(NAME), [NAME])
    assert told.value.reason == "refused" and answers.empty
    # The failed order is over: the next one is another.
    await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
    assert pebble.orders == 2


async def test_an_order_that_takes_too_long_is_given_up_in_time(tmp_path: Path, pebble: Pebble) -> None:
    with pytest.raises(
        IssuerError, match=rf"the order for {NAME} at localhost:\d+ took more than 1 s"
    ) as told:
        await issuer(tmp_path, pebble, _Hanging(), seconds=1).issue(request_for(NAME), [NAME])
    assert told.value.reason == "issuer-slow"


async def test_refused_nonces_and_slow_looks_do_not_matter(
    tmp_path: Path, answers: Answers, challenge_dns: ChallengeDns
) -> None:
    fickle = {"PEBBLE_WFE_NONCEREJECT": "50", "PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "1"}
    http, _ = answers.ports
    with Pebble(tmp_path / "pebble", http=http, dns=challenge_dns.port, environment=fickle) as pebble:
        made = await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
        assert signed_by(pebble, made.leaf_pem, made.chain_pem) == [NAME]
        assert pebble.orders == 1


async def test_a_revoked_certificate_is_revoked_at_the_authority_and_twice_is_as_once(
    tmp_path: Path, pebble: Pebble, answers: Answers
) -> None:
    acme = issuer(tmp_path, pebble, HttpProver(answers))
    made = await acme.issue(request_for(NAME), [NAME])
    assert pebble.status(made.serial) == "Valid"
    await acme.revoke(made.leaf_pem)
    await acme.revoke(made.leaf_pem)
    assert pebble.status(made.serial) == "Revoked"


# The account


async def test_the_account_keeps_its_key_to_itself_and_lives_through_a_restart(
    tmp_path: Path, pebble: Pebble, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
    key = tmp_path / "acme" / "account-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    before = key.read_text()
    await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
    assert key.read_text() == before
    assert sum("There are now 1 accounts" in line or "Added account" in line for line in pebble.lines) <= 1
    assert not any(line in caplog.text for line in before.splitlines()[1:-1])


async def test_the_accounts_key_is_changed_and_the_account_stays(
    tmp_path: Path, pebble: Pebble, answers: Answers
) -> None:
    acme = issuer(tmp_path, pebble, HttpProver(answers))
    await acme.issue(request_for(NAME), [NAME])
    directory = tmp_path / "acme"
    old, facts = (directory / "account-key.pem").read_text(), (directory / "account.json").read_text()
    await acme.account.rollover()
    assert (directory / "account-key.pem").read_text() != old
    for each in (acme, issuer(tmp_path, pebble, HttpProver(answers))):
        await each.issue(request_for(NAME), [NAME])
    assert (directory / "account.json").read_text() == facts
    private.write(directory / "account-key.pem", old)
    with pytest.raises(IssuerError, match="refused"):
        await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])


@pytest.mark.parametrize("reached", [True, False])
async def test_a_rollover_that_a_crash_cut_off_ends_with_the_key_that_the_authority_knows(
    tmp_path: Path, pebble: Pebble, answers: Answers, reached: bool
) -> None:
    acme, directory = issuer(tmp_path, pebble, HttpProver(answers)), tmp_path / "acme"
    await acme.account.ready()
    old = (directory / "account-key.pem").read_text()
    await acme.account.rollover()
    new = (directory / "account-key.pem").read_text()
    if reached:  # the authority has taken the new key, and then the power went
        private.write(directory / "account-key.pem", old)
        private.write(directory / "next-account-key.pem", new)
    else:
        private.write(directory / "next-account-key.pem", old)
    await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
    assert (directory / "account-key.pem").read_text() == new
    assert not (directory / "next-account-key.pem").exists()


async def test_an_authority_that_wants_an_external_account_gets_one_or_is_named(
    tmp_path: Path, answers: Answers, challenge_dns: ChallengeDns
) -> None:
    mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    private.write(tmp_path / "eab", mac + "\n")
    accounts, (http, _) = {"kid-1": mac}, answers.ports
    with Pebble(tmp_path / "pebble", http=http, dns=challenge_dns.port, accounts=accounts) as pebble:
        with pytest.raises(IssuerError, match="set acme_eab_kid and acme_eab_key_file"):
            await issuer(tmp_path, pebble, HttpProver(answers)).issue(request_for(NAME), [NAME])
        bound = ExternalAccount("kid-1", tmp_path / "eab")
        await issuer(tmp_path, pebble, HttpProver(answers), external=bound).issue(request_for(NAME), [NAME])


async def test_an_authority_that_lost_its_accounts_gets_a_new_one(
    tmp_path: Path, answers: Answers, challenge_dns: ChallengeDns
) -> None:
    (http, _), port = answers.ports, quiet_port()
    with Pebble(tmp_path / "pebble", http=http, dns=challenge_dns.port, port=port) as pebble:
        acme = issuer(tmp_path, pebble, HttpProver(answers))
        await acme.issue(request_for(NAME), [NAME])
        ca = pebble.ca_file.read_bytes(), (tmp_path / "pebble" / "key.pem").read_bytes()
    with pytest.raises(IssuerError, match="is away") as told:
        await acme.issue(request_for(NAME), [NAME])
    assert told.value.reason == "away"
    with Pebble(tmp_path / "pebble", http=http, dns=challenge_dns.port, port=port) as pebble:
        assert ca != (pebble.ca_file.read_bytes(), b"")
        await acme.issue(request_for(NAME), [NAME])


# The DNS


@pytest.fixture
def tsig(tmp_path: Path) -> TsigKey:
    private.write(tmp_path / "tsig", SECRET + "\n")
    return TsigKey(KEY_NAME, tmp_path / "tsig", "hmac-sha256")


def txt(server: tuple[str, int], name: str) -> set[str]:
    answer = dns.query.udp(dns.message.make_query(name, "TXT"), server[0], port=server[1], timeout=5)
    return {
        b"".join(record.strings).decode()
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.TXT
        for record in rrset
    }


async def wildcard(directory: Path, pebble: Pebble, records: Records) -> list[str]:
    names = [f"*.{ZONE}", ZONE]
    made = await issuer(directory, pebble, DnsProver(records)).issue(request_for(*names), names)
    return signed_by(pebble, made.leaf_pem, made.chain_pem)


async def test_a_wildcard_and_its_domain_are_proved_by_dns_updates_that_are_taken_back(
    tmp_path: Path, tsig: TsigKey
) -> None:
    port = quiet_port()
    with NameServer(tmp_path / "bind", ZONE, port) as bind, Pebble(tmp_path / "pebble", dns=port) as pebble:
        records = DnsUpdates(f"{PRIMARY}:{port}", tsig, zone=None, wait_seconds=30)
        assert sorted(await wildcard(tmp_path, pebble, records)) == [f"*.{ZONE}", ZONE]
        added = [line for line in bind.lines if f"adding an RR at '_acme-challenge.{ZONE}' TXT" in line]
        assert len(added) == 2
        assert txt((PRIMARY, port), f"_acme-challenge.{ZONE}") == set()


async def test_a_record_is_written_where_an_alias_leads(tmp_path: Path, tsig: TsigKey) -> None:
    port, hostname = quiet_port(), f"aliased.{ZONE}"
    with NameServer(tmp_path / "bind", ZONE, port) as bind, Pebble(tmp_path / "pebble", dns=port) as pebble:
        server = f"{PRIMARY}:{port}"
        records = DnsUpdates(server, tsig, zone=None, wait_seconds=30)
        acme = issuer(tmp_path, pebble, DnsProver(records, Aliases(server).end_of))
        made = await acme.issue(request_for(hostname), [hostname])
        assert signed_by(pebble, made.leaf_pem, made.chain_pem) == [hostname]
        assert any(f"adding an RR at 'proofs.{ZONE}' TXT" in line for line in bind.lines)
        assert txt((PRIMARY, port), f"proofs.{ZONE}") == set()
        assert not acme._orders._parts.authorizations._turns, "nothing is kept of a name"


async def test_a_name_without_an_alias_is_itself_and_one_without_an_end_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = quiet_port()
    with NameServer(tmp_path / "bind", ZONE, port):
        aliases = Aliases(f"{PRIMARY}:{port}")
        for name in (f"_acme-challenge.{ZONE}", f"_acme-challenge.no-such.{ZONE}"):
            assert await aliases.end_of(name) == name
        with pytest.raises(IssuerError, match="more than 8 aliases"):
            await aliases.end_of(f"_acme-challenge.round.{ZONE}")
    assert "alias not asked for" not in caplog.text
    monkeypatch.setattr("wellhead.control.dns_servers.ASK_SECONDS", 0.5)
    assert await Aliases(f"{PRIMARY}:{port}").end_of(f"proofs.{ZONE}") == f"proofs.{ZONE}"
    assert "alias not asked for" in caplog.text, "nobody answers now"


async def test_each_address_of_the_dns_server_is_tried(
    tmp_path: Path, tsig: TsigKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, name = quiet_port(), f"_acme-challenge.{ZONE}"
    found = [(2, 2, 17, "", (address, port)) for address in ("127.0.0.9", PRIMARY)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr("wellhead.control.acme_rfc2136.ASK_SECONDS", 1.0)
    with NameServer(tmp_path / "bind", ZONE, port):
        records = DnsUpdates(f"dns.test:{port}", tsig, zone=None, wait_seconds=30)
        await records.add(name, "value")
        assert txt((PRIMARY, port), name) == {"value"}
        await records.remove(name, "value")
        assert txt((PRIMARY, port), name) == set()


async def test_a_record_is_waited_for_at_every_server_of_the_zone(tmp_path: Path, tsig: TsigKey) -> None:
    port, name = quiet_port(), f"_acme-challenge.{ZONE}"
    with (
        NameServer(tmp_path / "one", ZONE, port, alone=False),
        NameServer(tmp_path / "two", ZONE, port, address=SECONDARY),
    ):
        records = DnsUpdates(f"{PRIMARY}:{port}", tsig, zone=ZONE, wait_seconds=30, port=port)
        await asyncio.gather(records.add(name, "one"), records.add(name, "two"))
        assert txt((SECONDARY, port), name) == txt((PRIMARY, port), name) == {"one", "two"}
        await records.remove(name, "one")
        await records.remove(name, "one")
        assert txt((PRIMARY, port), name) == {"two"}


async def test_a_server_that_does_not_follow_is_named_when_the_wait_is_over(
    tmp_path: Path, tsig: TsigKey
) -> None:
    port = quiet_port()
    with (
        NameServer(tmp_path / "one", ZONE, port, alone=False),
        NameServer(tmp_path / "two", ZONE, port, address=SECONDARY, deaf=True),
    ):
        records = DnsUpdates(f"{PRIMARY}:{port}", tsig, zone=ZONE, wait_seconds=1, port=port)
        with pytest.raises(IssuerError, match=r"do not all answer with the record .* after 1 s") as told:
            await records.add(f"_acme-challenge.{ZONE}", "value")
    assert told.value.reason == "dns-wait"


async def test_a_key_that_the_server_does_not_know_is_told(tmp_path: Path) -> None:
    private.write(tmp_path / "tsig", SECRET + "\n")
    stranger, port = TsigKey("another-key", tmp_path / "tsig", "hmac-sha256"), quiet_port()
    with NameServer(tmp_path / "bind", ZONE, port):
        records = DnsUpdates(f"{PRIMARY}:{port}", stranger, zone=None, wait_seconds=5)
        with pytest.raises(IssuerError, match=rf"adding _acme-challenge.{ZONE}") as told:
            await records.add(f"_acme-challenge.{ZONE}", "value")
        assert told.value.reason == "dns"
        with pytest.raises(IssuerError, match=r"has no zone for|REFUSED"):
            await records.add("_acme-challenge.elsewhere.test", "value")


HOOK = """#!{python}
import json, sys, urllib.request
action, name, value = sys.argv[1:]
path = {{"add": "set-txt", "remove": "clear-txt"}}[action]
body = json.dumps({{"host": name + ".", "value": value}}).encode()
urllib.request.urlopen("{url}/" + path, body).read()
with open("{log}", "a") as log:
    print(action, name, file=log)
"""


async def test_a_program_of_the_operators_puts_the_records_and_takes_them_back(
    tmp_path: Path, challenge_dns: ChallengeDns
) -> None:
    program, log = tmp_path / "hook", tmp_path / "log"
    program.write_text(HOOK.format(python=sys.executable, url=challenge_dns.url, log=log))
    program.chmod(0o700)
    name = f"_acme-challenge.{NAME}"
    with Pebble(tmp_path / "pebble", dns=challenge_dns.port) as pebble:
        acme = issuer(tmp_path, pebble, DnsProver(Hook(program, 30)))
        made = await acme.issue(request_for(NAME), [NAME])
        assert signed_by(pebble, made.leaf_pem, made.chain_pem) == [NAME]
    assert log.read_text() == f"add {name}\nremove {name}\n"
    assert txt(("127.0.0.1", challenge_dns.port), name) == set()


# Route 53


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    """The URL of moto's server, and credentials that it takes."""
    from moto.server import ThreadedMotoServer

    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    patch.undo()


def route53(url: str) -> Any:
    import boto3

    return boto3.client("route53", region_name="us-east-1", endpoint_url=url)


async def test_route_53_keeps_all_values_of_a_name_until_each_is_taken_back(amazon: str) -> None:
    client, name = route53(amazon), "_acme-challenge.deep.example.test"
    zone = client.create_hosted_zone(Name="deep.example.test", CallerReference="1")["HostedZone"]["Id"]
    client.create_hosted_zone(Name="example.test", CallerReference="2")

    def values() -> list[str]:
        found = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return [r["Value"] for s in found if s["Type"] == "TXT" for r in s["ResourceRecords"]]

    records = Route53(None, 30, endpoint=amazon)
    await asyncio.gather(records.add(name, "one"), records.add(name, "two"))
    assert sorted(values()) == ['"one"', '"two"']
    await records.remove(name, "one")
    assert values() == ['"two"']
    await records.remove(name, "two")
    await records.remove(name, "two")
    assert values() == [] and not records._zones


@contextlib.asynccontextmanager
async def hesitant(url: str, looks: int) -> AsyncIterator[tuple[str, list[str]]]:
    """moto has every change in sync at once. This stands before it and says PENDING for so many looks.

    Its URL, and what it answered to those who looked.
    """
    said: list[str] = []

    async def pass_on(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            target, body = f"{url}{request.path_qs}", await request.read()
            async with session.request(request.method, target, data=body, headers=headers) as reply:
                answer = await reply.read()
        if re.fullmatch(r"/2013-04-01/change/[^/]+", request.path):
            if len(said) < looks:
                assert b"INSYNC" in answer
                answer = answer.replace(b"INSYNC", b"PENDING")
            said.append("PENDING" if b"PENDING" in answer else "INSYNC")
        return web.Response(body=answer, status=reply.status, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", said
    finally:
        await runner.cleanup()


async def test_a_record_of_route_53_is_waited_for_until_every_server_of_theirs_has_it(amazon: str) -> None:
    zone = route53(amazon).create_hosted_zone(Name="sync.test", CallerReference="3")["HostedZone"]["Id"]
    async with hesitant(amazon, looks=2) as (url, said):
        await Route53(None, 30, endpoint=url).add("_acme-challenge.sync.test", "value")
        assert said == ["PENDING", "PENDING", "INSYNC"]
    async with hesitant(amazon, looks=1000) as (url, said):
        with pytest.raises(IssuerError, match=r"has not put the record .* everywhere after 1 s") as told:
            await Route53("sync.test", 1, endpoint=url).add("_acme-challenge.sync.test", "another")
        assert told.value.reason == "dns-wait" and set(said) == {"PENDING"}
    found = route53(amazon).list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert ['"another"', '"value"'] in [sorted(r["Value"] for r in each["ResourceRecords"]) for each in found]


async def test_route_53_without_a_fitting_zone_names_the_name(amazon: str) -> None:
    with pytest.raises(IssuerError, match=r"no public hosted zone that holds .*nobody\.invalid") as told:
        await Route53(None, 30, endpoint=amazon).add("_acme-challenge.nobody.invalid", "value")
    assert told.value.reason == "dns"
