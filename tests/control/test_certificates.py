"""Passthrough tunnels and their certificates: signed once, kept, renewed, void at the end, names held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from sqlalchemy import inspect

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import built, memory_authority, signing_of
from tests.kit.csr import pem_for
from wellhead.control import paging
from wellhead.control.csr import key_digest
from wellhead.control.issuing import Issuer
from wellhead.control.local_issuer import LocalIssuer
from wellhead.control.signing import Signing, SigningTerms
from wellhead.control.store import Store
from wellhead.control.store.certificates import Hold
from wellhead.control.store.duty import SIGHTING_SECONDS
from wellhead.control.store.orders import Budget
from wellhead.control.store.tables import CertificateRow, OrderRow
from wellhead.errors import BadRequest, Conflict, IssuerError, RateLimited
from wellhead.model.access import Secret
from wellhead.model.certificates import Issued, ServerCertificate
from wellhead.model.records import SERVER, OrganizationId, TlsMode, TunnelId, TunnelStatus
from wellhead.settings import ServerSettings

HOST = "my-agent.example.org"
MOST_OF_A_GAP = timedelta(seconds=SIGHTING_SECONDS - 60)


class Watched:
    """A local issuer that may be held up, fail, or go by another name; ``asked`` counts its orders."""

    def __init__(self, clock: Clock) -> None:
        self._authority, self._clock = memory_authority(), clock
        self.life = timedelta(days=90)
        self.name = "local"
        self.asked = 0
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.failure: IssuerError | None = None
        self.revoked: list[str] = []
        self.replaced: list[str | None] = []  # what each order named
        self.refusals = 0  # to revoke

    def renewal_id(self, leaf_pem: str) -> str | None:
        return f"id of {leaf_pem}" if self.name == "acme" else None

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        self.asked += 1
        self.replaced.append(replaces)
        self.begun.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return await LocalIssuer(self._authority, self.life, self._clock).issue(csr, names)

    async def revoke(self, leaf_pem: str) -> None:
        if self.failure is not None:
            self.refusals += 1
            raise self.failure
        self.revoked.append(leaf_pem)


@pytest.fixture
def issuer(clock: Clock) -> Watched:
    return Watched(clock)


def caller(app: FastAPI, key: Secret) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://control/api/v1",
        headers={"X-API-Key": key.reveal()},
    )


async def made(api: httpx.AsyncClient, name: str = "my-agent", mode: str = "passthrough") -> str:
    answer = await api.post("/tunnels/", json={"tunnel_name": name, "tls_mode": mode})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["tunnel"]["id"])


async def sign(api: httpx.AsyncClient, tunnel: str, pem: str) -> httpx.Response:
    return await api.post(f"/tunnels/{tunnel}/sign-csr", json={"csr_pem": pem})


async def test_the_first_certificate_makes_a_passthrough_tunnel_active(
    api: httpx.AsyncClient, store: Store
) -> None:
    tunnel = await made(api)
    record = (await api.get(f"/tunnels/{tunnel}")).json()
    assert record["status"] == "awaiting_cert" and record["cert_pem"] is None
    assert record["public_host"] == HOST and record["public_urls"] == [f"https://{HOST}:8443"]
    view = store.directory.tunnel("my-agent")
    assert view is not None and view.status is TunnelStatus.AWAITING_CERT, "agents may be there"
    assert view.tls_mode is TlsMode.PASSTHROUGH

    answer = await sign(api, tunnel, pem_for(HOST, common=HOST))
    assert answer.status_code == 200
    signed = answer.json()
    assert signed.keys() == {"cert_pem", "chain_pem", "cert_fingerprint_sha256", "cert_expires_at"}
    assert signed["cert_pem"].endswith("-----\n") and signed["chain_pem"].endswith("-----\n")
    leaf, issuer = (
        x509.load_pem_x509_certificate(signed[part].encode()) for part in ("cert_pem", "chain_pem")
    )
    leaf.verify_directly_issued_by(issuer)
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == [HOST]
    record = (await api.get(f"/tunnels/{tunnel}")).json()
    assert record["status"] == "active" and record["cert_pem"] == signed["cert_pem"]
    assert record["cert_fingerprint_sha256"] == signed["cert_fingerprint_sha256"]
    assert record["cert_expires_at"] == signed["cert_expires_at"] > record["cert_renew_at"]
    listed = (await api.get("/tunnels/")).json()["tunnels"]
    assert listed == [record]
    view = store.directory.tunnel("my-agent")
    assert view is not None and view.status is TunnelStatus.ACTIVE


async def test_the_path_may_end_with_a_slash(api: httpx.AsyncClient) -> None:
    tunnel = await made(api)
    answer = await api.post(f"/tunnels/{tunnel}/sign-csr/", json={"csr_pem": pem_for(HOST)})
    assert answer.status_code == 200


async def test_a_bad_request_is_a_400_and_orders_nothing(api: httpx.AsyncClient, issuer: Watched) -> None:
    tunnel = await made(api)
    answer = await sign(api, tunnel, pem_for("other.example.org"))
    assert answer.status_code == 400 and answer.json().keys() == {"detail"}
    assert issuer.asked == 0
    assert (await api.get(f"/tunnels/{tunnel}")).json()["status"] == "awaiting_cert"


async def test_a_key_of_anothers_is_refused(
    api: httpx.AsyncClient, store: Store, organization: OrganizationId, issuer: Watched
) -> None:
    theirs, _ = await store.create_organization("theirs")
    row, _ = await store.create_tunnel(theirs, "another", TlsMode.PASSTHROUGH)
    key = ec.generate_private_key(ec.SECP256R1())
    signing = signing_of(store, PUBLIC, ServerSettings(), issuer)
    await signing.sign(theirs, row.id, pem_for("another.example.org", key=key), by=SERVER)
    answer = await sign(api, await made(api), pem_for(HOST, key=key))
    assert answer.status_code == 400 and "somebody else's" in answer.json()["detail"]
    assert issuer.asked == 1


async def test_a_key_of_the_servers_own_is_refused(
    store: Store, organization: OrganizationId, issuer: Watched
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ours = [key_digest(key.public_key())]
    terms = SigningTerms.of(ServerSettings(), issuer)
    signing = Signing(store, issuer, PUBLIC, terms, lambda: ours)
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    with pytest.raises(BadRequest):
        await signing.sign(organization, row.id, pem_for(HOST, key=key), by=SERVER)


async def test_a_tunnel_whose_tls_ends_at_the_edge_has_no_certificate(api: httpx.AsyncClient) -> None:
    answer = await sign(api, await made(api, mode="edge"), pem_for(HOST))
    assert answer.status_code == 409
    assert "tls_mode" in answer.json()["detail"], "by such a word clients know that the mode is wrong"


async def test_a_tunnel_on_its_way_out_is_told_from_one_of_the_wrong_mode(api: httpx.AsyncClient) -> None:
    tunnel = await made(api, "edge-passthrough")
    await api.delete(f"/tunnels/{tunnel}")
    answer = await sign(api, tunnel, pem_for("edge-passthrough.example.org"))
    assert answer.status_code == 409
    said = answer.json()["detail"].lower()
    assert not any(word in said for word in ("edge", "tls_mode", "passthrough")), "though its name has them"


async def test_a_foreign_tunnel_is_no_tunnel(api: httpx.AsyncClient, store: Store) -> None:
    theirs, _ = await store.create_organization("theirs")
    row, _ = await store.create_tunnel(theirs, "my-agent", TlsMode.PASSTHROUGH)
    answer = await sign(api, row.id, pem_for(HOST))
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such tunnel"})


async def test_a_request_sent_again_joins_its_order_and_gets_its_certificate(
    api: httpx.AsyncClient, issuer: Watched
) -> None:
    tunnel, pem = await made(api), pem_for(HOST)
    issuer.open.clear()
    first = asyncio.create_task(sign(api, tunnel, pem))
    await issuer.begun.wait()
    first.cancel()  # its caller gave up
    again = [asyncio.create_task(sign(api, tunnel, pem)) for _ in range(3)]
    await asyncio.sleep(0.05)
    issuer.open.set()
    answers = [(await answer).json() for answer in again]
    late = (await sign(api, tunnel, pem)).json()
    assert issuer.asked == 1 and all(answer == late for answer in answers) and "cert_pem" in late
    assert (await sign(api, tunnel, pem_for(HOST))).json() != late and issuer.asked == 2


async def test_a_request_sent_again_as_its_order_ends_is_no_second_order(
    api: httpx.AsyncClient, store: Store, issuer: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, first_is_over, looks = store.certificates.fresh, asyncio.Event(), 0

    async def slow_for_the_second(tunnel: TunnelId, digest: bytes) -> CertificateRow | None:
        nonlocal looks
        looks += 1
        late = looks == 2
        found = await look(tunnel, digest)
        if late:
            await first_is_over.wait()
        return found

    monkeypatch.setattr(store.certificates, "fresh", slow_for_the_second)
    tunnel, pem = await made(api), pem_for(HOST)
    issuer.open.clear()
    first, again = (asyncio.create_task(sign(api, tunnel, pem)) for _ in range(2))
    await issuer.begun.wait()
    await asyncio.sleep(0.05)
    issuer.open.set()
    answer = (await first).json()
    first_is_over.set()
    assert (await again).json() == answer and issuer.asked == 1


async def test_who_waits_too_long_is_asked_to_come_again(
    store: Store, admin: Secret, issuer: Watched
) -> None:
    app = built(store, PUBLIC, ServerSettings(reply_seconds=5.05), issuer=issuer)
    async with caller(app, admin) as api:
        tunnel, pem = await made(api), pem_for(HOST)
        issuer.open.clear()
        answer = await sign(api, tunnel, pem)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        issuer.open.set()
        assert (await sign(api, tunnel, pem)).status_code == 200 and issuer.asked == 1


async def test_a_certificate_to_be_renewed_is_ordered_anew_even_for_the_same_request(
    api: httpx.AsyncClient, issuer: Watched, clock: Clock
) -> None:
    tunnel, pem = await made(api), pem_for(HOST)
    first = (await sign(api, tunnel, pem)).json()
    (certificate,) = (await api.get("/certificates")).json()["certificates"]
    assert 89 < certificate["days_left"] <= 90 and certificate["status"] == "issued"
    renewed = (await api.post(f"/certificates/{certificate['id']}/renew")).json()
    assert renewed["renew_at"] < certificate["renew_at"]
    assert (await api.get(f"/tunnels/{tunnel}")).json()["cert_renew_at"] == renewed["renew_at"]
    second = (await sign(api, tunnel, pem)).json()
    assert second["cert_pem"] != first["cert_pem"] and issuer.asked == 2
    refused = await api.post(f"/certificates/{certificate['id']}/renew")
    assert refused.status_code == 409, "it was replaced"
    clock.ahead = timedelta(days=61)
    third = (await sign(api, tunnel, pem)).json()
    assert third["cert_pem"] != second["cert_pem"] and issuer.asked == 3


async def test_the_list_of_certificates_has_pages_and_a_filter(api: httpx.AsyncClient) -> None:
    one, other = await made(api), await made(api, "another")
    for _ in range(3):
        await sign(api, one, pem_for(HOST))
    await sign(api, other, pem_for("another.example.org"))
    listed = (await api.get("/certificates")).json()["certificates"]
    assert [each["tunnel_id"] for each in listed] == [one] * 3 + [other]
    assert len({each["serial"] for each in listed}) == 4
    page = (await api.get("/certificates", params={"limit": 3})).json()
    rest = (await api.get("/certificates", params={"cursor": page["next_cursor"]})).json()
    assert page["certificates"] + rest["certificates"] == listed
    only = (await api.get("/certificates", params={"tunnel_id": other})).json()["certificates"]
    assert only == listed[3:] == [(await api.get(f"/certificates/{only[0]['id']}")).json()]


async def test_a_list_without_a_limit_is_bounded_and_loads_no_pem(
    api: httpx.AsyncClient, store: Store, organization: OrganizationId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "LIMIT_MAX", 2)
    one, other = await made(api), await made(api, "another")
    for _ in range(3):
        await sign(api, one, pem_for(HOST))
    await sign(api, other, pem_for("another.example.org"))
    first = (await api.get("/certificates", params={"limit": 1})).json()
    rest = (await api.get("/certificates", params={"cursor": first["next_cursor"]})).json()
    assert len(rest["certificates"]) == 2 and rest["next_cursor"], "after a place, a page"
    last = (await api.get("/certificates", params={"cursor": rest["next_cursor"]})).json()
    assert len(last["certificates"]) == 1 and last["next_cursor"] is None
    every = first["certificates"] + rest["certificates"] + last["certificates"]
    newest = (await api.get("/certificates")).json()
    assert newest == {"certificates": every[-2:], "next_cursor": None}
    of_one = (await api.get("/certificates", params={"tunnel_id": one})).json()["certificates"]
    assert of_one == every[1:3]
    for rows in (
        await store.certificates.page(organization),
        await store.certificates.newest(organization, None, 2),
    ):
        assert all({"leaf_pem", "chain_pem"} <= inspect(row).unloaded for row in rows)


async def test_the_local_authority_signs_no_more_for_a_tunnel_than_the_records_bear(
    store: Store, issuer: Watched, organization: OrganizationId, clock: Clock
) -> None:
    signing = signing_of(store, PUBLIC, ServerSettings(csr_per_tunnel_per_hour=1), issuer)
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    for _ in range(7):
        await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)
        clock.pass_by(timedelta(hours=1, seconds=1))
    with pytest.raises(RateLimited, match="7 certificates for this name in a week"):
        await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)


async def test_no_key_is_kept(api: httpx.AsyncClient, file: Path) -> None:
    await sign(api, await made(api), pem_for(HOST))
    for each in file.parent.iterdir():
        assert b"PRIVATE KEY" not in each.read_bytes()


async def test_every_issue_and_revocation_is_in_the_audit(api: httpx.AsyncClient) -> None:
    tunnel = await made(api)
    await sign(api, tunnel, pem_for(HOST))
    await api.delete(f"/tunnels/{tunnel}")
    await api.delete(f"/tunnels/{tunnel}/force")
    entries = (await api.get("/audit", params={"target_id": tunnel})).json()["entries"]
    by_action = {entry["action"]: entry for entry in reversed(entries)}
    assert list(by_action) == [
        "tunnel.create",
        "certificate.issue",
        "tunnel.activate",
        "tunnel.delete",
        "tunnel.force_delete",
        "certificate.revoke",
    ]
    issued = by_action["certificate.issue"]
    assert issued["key_id"] and issued["after"]["hostname"] == HOST
    assert by_action["certificate.revoke"]["after"]["serial"] == issued["after"]["serial"]


async def test_a_deleted_tunnels_local_certificates_are_void_for_everybody(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, file: Path
) -> None:
    async def void() -> list[int]:
        answer = await stranger.get("/ca.crl")
        assert answer.headers["content-type"] == "application/pkix-crl"
        return [each.serial_number for each in x509.load_der_x509_crl(answer.content)]

    tunnel = await made(api)
    signed = (await sign(api, tunnel, pem_for(HOST))).json()
    assert await void() == []
    await api.delete(f"/tunnels/{tunnel}")
    assert await void() == [], "it may be restored"
    await api.delete(f"/tunnels/{tunnel}/force")
    assert await void() == [x509.load_pem_x509_certificate(signed["cert_pem"].encode()).serial_number]
    (certificate,) = (await api.get("/certificates")).json()["certificates"]
    assert certificate["status"] == "revoked" and certificate["revoked_at"]


async def test_a_restored_tunnel_is_active_if_it_ever_had_a_certificate(api: httpx.AsyncClient) -> None:
    without, having = await made(api), await made(api, "another")
    await sign(api, having, pem_for("another.example.org"))
    statuses = []
    for tunnel in (without, having):
        await api.delete(f"/tunnels/{tunnel}")
        statuses.append((await api.post(f"/tunnels/{tunnel}/restore")).json()["status"])
    assert statuses == ["awaiting_cert", "active"]


async def test_a_tunnel_deleted_during_its_order_gets_nothing_that_is_believed(
    api: httpx.AsyncClient, store: Store, issuer: Watched
) -> None:
    tunnel = await made(api)
    issuer.open.clear()
    order = asyncio.create_task(sign(api, tunnel, pem_for(HOST)))
    await issuer.begun.wait()
    await api.delete(f"/tunnels/{tunnel}")
    await api.delete(f"/tunnels/{tunnel}/force")
    issuer.open.set()
    assert (await order).status_code == 409
    assert len(await store.certificates.void()) == 1


# Names that are held


async def ended(store: Store, issuer: Issuer, organization: OrganizationId) -> None:
    """A tunnel with a certificate, made and deleted."""
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    await signing_of(store, PUBLIC, ServerSettings(), issuer).sign(
        organization, row.id, pem_for(HOST), by=SERVER
    )
    await store.delete_tunnel(organization, row.id)
    await store.force_delete_tunnel(organization, row.id)


@pytest.mark.parametrize(
    ("issuer_name", "hold", "held"),
    [
        ("local", "public", False),
        ("local", "every", True),
        ("local", "off", False),
        ("acme", "public", True),
        ("acme", "every", True),
        ("acme", "off", False),
    ],
)
async def test_a_name_is_held_while_a_certificate_for_it_is_believed(
    store: Store, clock: Clock, issuer: Watched, issuer_name: str, hold: Hold, held: bool
) -> None:
    store.certificates.hold = hold
    issuer.name = issuer_name
    former, _ = await store.create_organization("former")
    other, _ = await store.create_organization("other")
    await ended(store, issuer, former)
    if held:
        day = f"{clock() + timedelta(days=90):%Y-%m-%d}"
        with pytest.raises(Conflict, match=f'"my-agent" is held until {day}'):
            await store.create_tunnel(other, "my-agent", TlsMode.EDGE)
        clock.pass_by(timedelta(days=90, seconds=1))
    await store.create_tunnel(other, "my-agent", TlsMode.EDGE)


async def test_the_former_owner_may_take_a_held_name_back(store: Store, issuer: Watched) -> None:
    issuer.name = "acme"
    former, _ = await store.create_organization("former")
    await ended(store, issuer, former)
    await store.create_tunnel(former, "my-agent", TlsMode.EDGE)


async def test_a_hold_outlives_restarts(file: Path, clock: Clock, issuer: Watched) -> None:
    issuer.name = "acme"
    store = await Store.open(file, clock)
    former, _ = await store.create_organization("former")
    other, _ = await store.create_organization("other")
    await ended(store, issuer, former)
    await store.close()
    store = await Store.open(file, clock)
    with pytest.raises(Conflict, match="is held until"):
        await store.create_tunnel(other, "my-agent", TlsMode.EDGE)
    await store.close()


@pytest.mark.parametrize("jump", [timedelta(days=365), timedelta(days=-365)])
async def test_a_clock_that_jumps_and_is_put_right_frees_no_name(
    store: Store, clock: Clock, issuer: Watched, jump: timedelta
) -> None:
    issuer.name = "acme"
    former, _ = await store.create_organization("former")
    other, _ = await store.create_organization("other")
    await ended(store, issuer, former)
    for _ in range(3):
        for ahead in (jump, -jump):
            clock.ahead += ahead
            with pytest.raises(Conflict, match="is held until"):
                await store.create_tunnel(other, "my-agent", TlsMode.EDGE)
            clock.pass_by(MOST_OF_A_GAP)
    clock.pass_by(timedelta(days=91))
    await store.create_tunnel(other, "my-agent", TlsMode.EDGE)


async def test_a_start_with_a_wrong_clock_frees_no_name_until_the_clock_has_said_so_for_a_while(
    file: Path, clock: Clock, issuer: Watched
) -> None:
    issuer.name = "acme"
    store = await Store.open(file, clock, clock.monotonic)
    former, _ = await store.create_organization("former")
    other, _ = await store.create_organization("other")
    await ended(store, issuer, former)
    await store.close()
    clock.ahead = timedelta(days=365)
    store = await Store.open(file, clock, clock.monotonic)
    clock.pass_by(MOST_OF_A_GAP)
    with pytest.raises(Conflict, match="believed some minutes later"):
        await store.create_tunnel(other, "my-agent", TlsMode.EDGE)
    clock.pass_by(timedelta(seconds=SIGHTING_SECONDS) - MOST_OF_A_GAP)
    await store.create_tunnel(other, "my-agent", TlsMode.EDGE)
    await store.close()


async def test_a_certificate_is_forgotten_long_after_its_end_and_not_before(
    store: Store, clock: Clock, issuer: Watched
) -> None:
    former, _ = await store.create_organization("former")
    await ended(store, issuer, former)
    await store.history.forget_until(clock() + timedelta(days=89))
    assert len(await store.certificates.page(former)) == 1
    await store.history.forget_until(clock() + timedelta(days=91))
    assert await store.certificates.page(former) == []


async def test_a_public_issuer_is_asked_to_revoke_what_deleted_tunnels_leave(
    store: Store, issuer: Watched, organization: OrganizationId
) -> None:
    issuer.name = "acme"
    await ended(store, issuer, organization)
    kept, _ = await store.create_tunnel(organization, "kept", TlsMode.PASSTHROUGH)
    signing = signing_of(store, PUBLIC, ServerSettings(), issuer)
    await signing.sign(organization, kept.id, pem_for("kept.example.org"), by=SERVER)
    issuer.failure = IssuerError("no answer", reason="away")
    await signing.revoke_left_over()
    await signing.revoke_left_over()
    assert issuer.revoked == [] and issuer.refusals == 1, "it is not asked at every look"
    issuer.failure = None
    await signing_of(store, PUBLIC, ServerSettings(), issuer).revoke_left_over()
    gone, live = await store.certificates.page(organization)
    assert issuer.revoked == [(await store.certificates.one(organization, gone.id)).leaf_pem]
    assert gone.revoked_at is not None and live.revoked_at is None
    other, _ = await store.create_organization("other")
    with pytest.raises(Conflict, match="is held until"):
        await store.create_tunnel(other, "my-agent", TlsMode.EDGE)


async def test_a_tunnels_renewal_names_the_certificate_that_it_replaces(
    store: Store, issuer: Watched, organization: OrganizationId
) -> None:
    """Authorities do not count such an order. Another issuer's certificate it knows nothing of."""
    signing = signing_of(store, PUBLIC, ServerSettings(), issuer)
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    other, _ = await store.create_tunnel(organization, "another", TlsMode.PASSTHROUGH)

    async def renewed() -> CertificateRow:
        return await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)

    await renewed()
    issuer.name = "acme"
    first, second = await renewed(), await renewed()
    await signing.sign(organization, other.id, pem_for("another.example.org"), by=SERVER)
    await store.certificates.revoked(second)
    await renewed()
    assert issuer.replaced == [None, None, f"id of {first.leaf_pem}", None, None]


# Budgets


async def test_too_many_requests_for_a_tunnel_are_put_off(
    store: Store, admin: Secret, issuer: Watched, clock: Clock
) -> None:
    app = built(store, PUBLIC, ServerSettings(csr_per_tunnel_per_hour=2), issuer=issuer)
    async with caller(app, admin) as api:
        tunnel, pem = await made(api), pem_for(HOST)
        for _ in range(3):
            assert (await sign(api, tunnel, pem)).status_code == 200, "a repeat is no order"
        await sign(api, tunnel, pem_for(HOST))
        answer = await sign(api, tunnel, pem_for(HOST))
        assert answer.status_code == 429 and answer.json()["detail"].startswith("certificate rate limit")
        assert answer.headers["x-limit"] == "csr-rate"
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
        assert (await sign(api, tunnel, pem)).status_code == 200, "what was issued is there still"
        assert (
            await sign(api, await made(api, "another"), pem_for("another.example.org"))
        ).status_code == 200
        clock.pass_by(timedelta(hours=1, seconds=1))
        assert (await sign(api, tunnel, pem_for(HOST))).status_code == 200
        assert issuer.asked == 4


async def test_a_public_issuer_is_spared_by_name_by_organization_and_in_all(
    store: Store, issuer: Watched, organization: OrganizationId
) -> None:
    issuer.name = "acme"
    settings = ServerSettings(
        issue_budget_per_name_per_week=1,
        issue_budget_per_organization_per_week=2,
        issue_budget_per_week=3,
    )
    signing = signing_of(store, PUBLIC, settings, issuer)
    theirs, _ = await store.create_organization("theirs")

    async def order(owner: OrganizationId, name: str) -> str:
        known = [row for row in await store.tunnels(owner) if row.name == name]
        row = known[0] if known else (await store.create_tunnel(owner, name, TlsMode.PASSTHROUGH))[0]
        try:
            await signing.sign(owner, row.id, pem_for(f"{name}.example.org"), by=SERVER)
        except Exception as error:
            return str(error)
        return "issued"

    assert await order(organization, "one") == "issued"
    assert "this name in a week" in await order(organization, "one")
    assert await order(organization, "two") == "issued"
    assert "this organization in a week" in await order(organization, "three")
    assert await order(theirs, "four") == "issued"
    assert "this server in a week" in await order(theirs, "five")
    assert issuer.asked == 3


@pytest.mark.parametrize("name", ["acme", "local"])
async def test_a_renewal_that_is_due_is_never_refused_for_a_budget_and_uses_none_up(
    store: Store, issuer: Watched, clock: Clock, organization: OrganizationId, name: str
) -> None:
    issuer.name = name
    budget = Budget(hostname_per_hour=2, hostname_per_week=2, per_week=3)
    signing = Signing(store, issuer, PUBLIC, SigningTerms(10, budget))
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)

    async def signed() -> CertificateRow:
        return await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)

    issuer.life = timedelta(hours=10)
    for _ in range(2):
        await signed()
    with pytest.raises(RateLimited):
        await signed()
    for _ in range(20):
        clock.pass_by(timedelta(hours=6))
        await signed()
    clock.pass_by(timedelta(days=7))
    assert issuer.asked == 22
    await signed()
    clock.ahead += timedelta(hours=9)
    for _ in range(2):
        await signed()
    with pytest.raises(RateLimited):
        await signed()
    assert issuer.asked == 25, "nothing is due because the clock was wrong"


async def test_a_clock_that_jumps_and_is_put_right_frees_no_budget(store: Store, clock: Clock) -> None:
    budget = Budget(hostname_per_week=1)
    await store.orders.begin(HOST, "acme", budget)
    clock.pass_by(timedelta(seconds=SIGHTING_SECONDS))
    for jump in (timedelta(days=30), timedelta(days=-30)):
        for ahead in (jump, -jump):
            clock.ahead += ahead
            await store.orders.forget()
            with pytest.raises(RateLimited, match="this name in a week"):
                await store.orders.begin(HOST, "acme", budget)
            clock.pass_by(MOST_OF_A_GAP)
    clock.pass_by(timedelta(weeks=1))
    await store.orders.begin(HOST, "acme", budget)


async def test_a_clock_that_is_put_right_far_back_blocks_no_longer_than_a_budget_counts(
    store: Store, clock: Clock
) -> None:
    budget = Budget(hostname_per_week=1)
    await store.orders.begin(HOST, "acme", budget)
    clock.ahead -= timedelta(days=365)
    await store.orders.forget()
    clock.pass_by(timedelta(seconds=SIGHTING_SECONDS))
    await store.orders.forget()
    with pytest.raises(RateLimited) as refused:
        await store.orders.begin(HOST, "acme", budget)
    assert refused.value.retry_after_seconds == pytest.approx(timedelta(weeks=1).total_seconds(), abs=60)
    clock.pass_by(timedelta(weeks=1))
    await store.orders.begin(HOST, "acme", budget)


async def test_orders_are_forgotten_when_no_budget_counts_them(store: Store, clock: Clock) -> None:
    budget = Budget(hostname_per_week=1)
    kept = await store.orders.begin(HOST, "acme", budget)
    clock.pass_by(timedelta(days=9))
    await store.orders.forget()
    async with store._database.reading() as session:
        assert await session.get(OrderRow, kept) is None


async def test_a_name_that_fails_waits_longer_each_time(
    api: httpx.AsyncClient, issuer: Watched, clock: Clock
) -> None:
    tunnel = await made(api)
    issuer.failure = IssuerError("the name does not resolve", reason="dns")
    waits = []
    for _ in range(3):
        refused = await sign(api, tunnel, pem_for(HOST))
        assert refused.status_code == 503 and "does not resolve" in refused.json()["detail"]
        put_off = await sign(api, tunnel, pem_for(HOST))
        assert put_off.status_code == 429
        waits.append(int(put_off.headers["retry-after"]))
        clock.pass_by(timedelta(seconds=waits[-1] + 1))
    assert waits[0] in (119, 120) and all(1.9 < b / a < 2.1 for a, b in zip(waits, waits[1:], strict=False))
    issuer.failure = None
    assert (await sign(api, tunnel, pem_for(HOST))).status_code == 200
    assert (await sign(api, tunnel, pem_for(HOST))).status_code == 200, "a success ends it"


async def test_an_issuer_that_is_away_costs_no_budget(
    store: Store, issuer: Watched, clock: Clock, organization: OrganizationId
) -> None:
    issuer.name, issuer.failure = "acme", IssuerError("no answer", reason="away")
    signing = signing_of(store, PUBLIC, ServerSettings(issue_budget_per_week=1), issuer)
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    for _ in range(3):
        with pytest.raises(Exception, match="503: no certificate for now: no answer"):
            await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)
        clock.pass_by(timedelta(minutes=1))
    issuer.failure = None
    await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)


async def test_an_answer_for_another_key_is_not_handed_on(
    store: Store, clock: Clock, organization: OrganizationId
) -> None:
    class Mistaken(Watched):
        async def issue(
            self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
        ) -> Issued:
            return await super().issue(x509.load_pem_x509_csr(pem_for(HOST).encode()), names)

    signing = signing_of(store, PUBLIC, ServerSettings(), Mistaken(clock))
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.PASSTHROUGH)
    with pytest.raises(Exception, match="another name or key"):
        await signing.sign(organization, row.id, pem_for(HOST), by=SERVER)
    assert await store.certificates.page(organization) == []


# The server's own


class Names:
    """Two certificates of the server's own names, one of them too young to be renewed."""

    def __init__(self, clock: Clock) -> None:
        self.renewed: list[str] = []
        self._found = [
            ServerCertificate("*.example.org", clock() + timedelta(days=60), 60.0, 0, ""),
            ServerCertificate("theirs.example.org", None, None, 3, "no answer"),
        ]

    def certificates(self) -> list[ServerCertificate]:
        return self._found

    def renew(self, name: str) -> timedelta | None:
        if self.renewed:
            return timedelta(hours=5)
        self.renewed.append(name)
        return None


async def test_the_servers_own_are_listed_and_ordered_anew_but_not_too_often(
    store: Store, admin: Secret, clock: Clock
) -> None:
    names = Names(clock)
    theirs, key = await store.create_organization("theirs")
    await store.create_tunnel(theirs, "theirs", TlsMode.EDGE)
    app = built(store, PUBLIC, ServerSettings(), server_names=names)
    async with caller(app, admin) as api:
        listed = (await api.get("/server-certificates")).json()["certificates"]
        assert [each["name"] for each in listed] == ["*.example.org"], "not another organization's tunnel"
        refused = await api.post("/server-certificates/renew", json={"name": "theirs.example.org"})
        assert refused.status_code == 404 and names.renewed == []
        answer = await api.post("/server-certificates/renew", json={"name": "*.example.org"})
        assert answer.status_code == 202 and answer.json() == listed[0]
        again = await api.post("/server-certificates/renew", json={"name": "*.example.org"})
        assert again.status_code == 429 and again.headers["retry-after"] == "18000"
    async with caller(app, key) as other:
        for refused in (
            await other.get("/server-certificates"),
            await other.post("/server-certificates/renew", json={"name": "*.example.org"}),
        ):
            assert refused.status_code == 403 and "set up with" in refused.json()["detail"]
    assert names.renewed == ["*.example.org"]
