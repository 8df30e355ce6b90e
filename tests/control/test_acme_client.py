"""What an authority's answers become: a stand-in, for no real one refuses, rests and suggests on demand."""

from __future__ import annotations

import base64
import datetime as dt
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import josepy as jose
import pytest
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kit.certs import self_signed
from wellhead.control.acme_account import Account
from wellhead.control.acme_client import AcmeClient, is_problem
from wellhead.control.acme_issuer import AcmeIssuer
from wellhead.control.acme_order import Orders
from wellhead.errors import IssuerError

PROBLEM = "urn:ietf:params:acme:error:"


class StandIn:
    """Answers each path with what ``answers`` has for it: status, headers, body; ``seen``: requests."""

    def __init__(self, directory: Path) -> None:
        key, certificate = self_signed("localhost", "127.0.0.1")
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(certificate)
        (directory / "both.pem").write_bytes(key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "both.pem")
        self.answers: dict[str, list[tuple[int, dict[str, str], str]]] = {}
        self.seen: list[tuple[str, str]] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo")
        self.answers["/dir"] = [(200, {}, json.dumps({name: f"{self.url}/{name}" for name in names}))]
        self.answers["/newNonce"] = [(200, {}, "")]

    def put(self, path: str, status: int, body: object = "", **headers: str) -> None:
        """The next answer for a path; the last one stays."""
        text = body if isinstance(body, str) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(path, []).append((status, named, text))

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        answers, seen = self.answers, self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                seen.append((self.path, self.rfile.read(length).decode()))
                left = answers.get(self.path, [(404, {}, "")])
                status, headers, text = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                kind = "application/json" if status < 400 else "application/problem+json"
                for name, value in {
                    "Content-Type": kind,
                    "Replay-Nonce": base64.urlsafe_b64encode(b"n" * 16).decode().rstrip("="),
                    "Content-Length": str(len(text)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    thread = threading.Thread(target=stand_in.server.serve_forever, daemon=True)
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()
    thread.join(10)


@pytest.fixture
def client(authority: StandIn) -> AcmeClient:
    client = AcmeClient(f"{authority.url}/dir", authority.ca_file)
    client.use(jose.JWKEC(key=ec.generate_private_key(ec.SECP256R1())), f"{authority.url}/account")
    return client


async def refused(client: AcmeClient, url: str) -> IssuerError:
    with pytest.raises(IssuerError) as told:
        await client.post("the order for a.example.org", url, messages.Registration())
    return told.value


async def test_a_problem_is_told_by_its_type_and_its_own_words(
    authority: StandIn, client: AcmeClient
) -> None:
    part = {
        "type": PROBLEM + "caa",
        "detail": "forbidden by CAA",
        "identifier": {"type": "dns", "value": "a.example.org"},
    }
    detail = {"type": PROBLEM + "rejectedIdentifier", "detail": "policy\nforbids", "subproblems": [part]}
    authority.put("/newOrder", 403, detail)
    error = await refused(client, f"{authority.url}/newOrder")
    assert error.reason == "refused" and is_problem(error, "rejectedIdentifier")
    assert str(error) == (
        f"{client.host} refused the order for a.example.org: rejectedIdentifier: policy\\nforbids;"
        " a.example.org: forbidden by CAA"
    )


@pytest.mark.parametrize("asked", ["3600", None])
async def test_a_rate_limit_says_when_to_come_again_by_a_number_or_a_date(
    authority: StandIn, client: AcmeClient, asked: str | None
) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3600)
    after = asked or soon.strftime("%a, %d %b %Y %H:%M:%S GMT")
    problem = {"type": PROBLEM + "rateLimited", "detail": "too many certificates"}
    authority.put("/newOrder", 429, problem, Retry_After=after)
    error = await refused(client, f"{authority.url}/newOrder")
    assert error.reason == "rate-limited"
    assert error.retry_after_seconds is not None and 3500 < error.retry_after_seconds <= 3600


@pytest.mark.parametrize(("status", "reason"), [(503, "away"), (500, "away"), (404, "bad-answer")])
async def test_a_page_in_place_of_an_answer_is_told_by_its_status(
    authority: StandIn, client: AcmeClient, status: int, reason: str
) -> None:
    authority.put("/newOrder", status, "<html>", Content_Type="text/html", Retry_After="30")
    error = await refused(client, f"{authority.url}/newOrder")
    assert (error.reason, error.retry_after_seconds) == (reason, 30)
    assert str(error) == f"{client.host} answered {status} to the order for a.example.org"


async def test_a_nonce_that_is_refused_is_tried_again_but_not_for_ever(
    authority: StandIn, client: AcmeClient
) -> None:
    bad = {"type": PROBLEM + "badNonce", "detail": "no"}
    for _ in range(3):
        authority.put("/newOrder", 400, bad)
    authority.put("/newOrder", 200, {"status": "pending"})
    assert (await client.post("an order", f"{authority.url}/newOrder", messages.Registration())).ok
    authority.answers["/newOrder"] = []
    authority.put("/newOrder", 400, bad)
    assert is_problem(await refused(client, f"{authority.url}/newOrder"), "badNonce")


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"newNonce": "x"}', "<html>"])
async def test_a_url_that_leads_to_no_directory_is_named(
    authority: StandIn, client: AcmeClient, body: str
) -> None:
    authority.answers["/dir"] = [(200, {}, body)]
    error = await refused(client, f"{authority.url}/newOrder")
    assert error.reason == "bad-answer"


async def test_an_authority_that_is_not_trusted_is_away(authority: StandIn) -> None:
    stranger = AcmeClient(f"{authority.url}/dir")
    stranger.use(jose.JWKEC(key=ec.generate_private_key(ec.SECP256R1())), None)
    error = await refused(stranger, f"{authority.url}/newOrder")
    assert error.reason == "away" and "certificate" in str(error)


async def test_an_authority_that_is_away_is_told_in_the_systems_words_without_numbers(
    authority: StandIn,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = AcmeClient(f"https://127.0.0.1:{port}/dir", authority.ca_file)
    away.use(jose.JWKEC(key=ec.generate_private_key(ec.SECP256R1())), None)
    error = await refused(away, f"{authority.url}/newOrder")
    assert error.reason == "away" and str(error) == f"127.0.0.1:{port} is away: connection refused"


# Renewal information (RFC 9773)


def leaf(days: float) -> str:
    """A certificate with the key identifier and the serial number of RFC 9773 section 4.1."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(0x8765432100)
        .not_valid_before(now - dt.timedelta(days=90))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), critical=False)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.PEM).decode()


RENEWAL_ID = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyEA"


def window(days: float) -> dict[str, object]:
    start = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    stamps = (start, start + dt.timedelta(days=1))
    return {
        "suggestedWindow": dict(
            zip(("start", "end"), (f"{s:%Y-%m-%dT%H:%M:%SZ}" for s in stamps), strict=True)
        )
    }


async def test_the_authority_suggests_a_moment_within_its_window_and_when_to_ask_again(
    authority: StandIn, client: AcmeClient
) -> None:
    authority.put(f"/renewalInfo/{RENEWAL_ID}", 200, window(3), Retry_After="7200")
    now = dt.datetime.now(dt.UTC)
    when, again = await client.renewal_time(leaf(30))
    assert when is not None
    assert dt.timedelta(days=2.9) < when - now < dt.timedelta(days=4.1)
    assert dt.timedelta(hours=1.9) < again - now < dt.timedelta(hours=2.1)


async def test_an_authority_without_renewal_information_suggests_nothing(
    authority: StandIn, client: AcmeClient
) -> None:
    names = ("newNonce", "newAccount", "newOrder", "revokeCert")
    authority.answers["/dir"] = [(200, {}, json.dumps({name: f"{authority.url}/{name}" for name in names}))]
    when, again = await client.renewal_time(leaf(30))
    assert when is None and again > dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("body", ["", "{}", '{"suggestedWindow": {"start": "yesterday"}}'])
async def test_renewal_information_that_is_none_is_a_bad_answer(
    authority: StandIn, client: AcmeClient, body: str
) -> None:
    authority.put(f"/renewalInfo/{RENEWAL_ID}", 200, body)
    with pytest.raises(IssuerError) as told:
        await client.renewal_time(leaf(30))
    assert told.value.reason == "bad-answer"


class _NoProver:
    kind = "http-01"

    async def put(self, proof: object) -> None:
        raise AssertionError("nothing is to be proved")

    async def remove(self, proof: object) -> None:
        raise AssertionError("nothing was proved")


async def test_an_order_names_the_certificate_that_it_replaces_and_does_without_where_that_is_refused(
    authority: StandIn, tmp_path: Path
) -> None:
    client = AcmeClient(f"{authority.url}/dir", authority.ca_file)
    account = Account(tmp_path / "acme", client)
    orders = Orders(client, account, _NoProver(), tmp_path / "acme" / "orders", order_seconds=20)
    acme = AcmeIssuer(client, account, orders)
    old = leaf(3)
    assert acme.renewal_id(old) == RENEWAL_ID
    authority.put("/newAccount", 201, {"status": "valid"}, Location=f"{authority.url}/account")
    authority.put("/newOrder", 409, {"type": PROBLEM + "alreadyReplaced", "detail": "it was replaced"})
    order = {
        "status": "valid",
        "identifiers": [{"type": "dns", "value": "a.example.org"}],
        "authorizations": [],
        "finalize": f"{authority.url}/finalize",
        "certificate": f"{authority.url}/certificate",
    }
    authority.put("/newOrder", 201, order, Location=f"{authority.url}/order")
    authority.put("/certificate", 200, old, Content_Type="application/pem-certificate-chain")
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    made = await acme.issue(request, ["a.example.org"], acme.renewal_id(old))
    assert made.leaf_pem == old
    asked = [_payload(body) for path, body in authority.seen if path == "/newOrder"]
    assert [one.get("replaces") for one in asked] == [RENEWAL_ID, None]


def _payload(body: str) -> dict[str, object]:
    text = str(json.loads(body)["payload"])
    payload: dict[str, object] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return payload
