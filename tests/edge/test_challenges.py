from __future__ import annotations

import asyncio
import errno
import ssl

import pytest

from tests.kit.certs import handshake, names_of, self_signed, shown
from tests.kit.house import House, status
from wellhead.edge.challenges import LIFE_SECONDS, PENDING, Challenges
from wellhead.net.tls import ALPN_ACME

NAME = "a.example.org"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_there_until_it_is_taken_back() -> None:
    challenges = Challenges(Clock())
    challenges.put_http(NAME, "one", "first")
    challenges.put_http(NAME, "two", "second")
    assert challenges.http(NAME, "one") == b"first" and challenges.http(NAME, "two") == b"second"
    challenges.put_http(NAME, "one", "again")
    assert challenges.http(NAME, "one") == b"again"
    for _ in range(2):
        challenges.remove(NAME, "one")
    assert challenges.http(NAME, "one") is None and challenges.http(NAME, "two") == b"second"
    assert challenges.http("b.example.org", "two") is None


def test_an_answer_that_nobody_takes_back_is_forgotten_by_time() -> None:
    clock = Clock()
    challenges = Challenges(clock)
    challenges.put_http(NAME, "one", "first")
    clock.now += LIFE_SECONDS - 1
    assert challenges.http(NAME, "one") == b"first"
    clock.now += 1
    assert challenges.http(NAME, "one") is None
    challenges.put_http(NAME, "two", "second")
    assert len(challenges) == 1


def test_answers_are_bounded_and_the_oldest_goes_first(caplog: pytest.LogCaptureFixture) -> None:
    challenges = Challenges(Clock())
    for number in range(PENDING + 1):
        challenges.put_http(NAME, f"t{number}", "answer")
    assert len(challenges) == PENDING
    assert challenges.http(NAME, "t0") is None and challenges.http(NAME, f"t{PENDING}") == b"answer"
    assert "too many challenges" in caplog.text


def test_a_certificate_and_an_answer_of_one_name_do_not_touch_each_other() -> None:
    challenges = Challenges(Clock())
    key, certificate = self_signed(NAME)
    challenges.put_alpn(NAME, certificate.decode(), key.decode())
    challenges.put_http(NAME, "one", "first")
    context = challenges.alpn(NAME)
    assert context is not None and challenges.http(NAME, "") is None
    client = ssl.create_default_context(cadata=certificate.decode())
    client.set_alpn_protocols([ALPN_ACME])
    found = handshake(context, client, NAME)
    assert names_of(shown(found)) == [NAME] and found.selected_alpn_protocol() == ALPN_ACME
    challenges.remove(NAME, "one")
    assert challenges.alpn(NAME) is context
    challenges.remove(NAME, "")
    assert challenges.alpn(NAME) is None


def test_a_certificate_that_openssl_does_not_take_is_told_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    challenges = Challenges(Clock())
    challenges.put_alpn(NAME, self_signed(NAME)[1].decode(), self_signed(NAME)[0].decode())
    assert challenges.alpn(NAME) is None
    assert "challenge certificate refused name=a.example.org" in caplog.text


def test_a_certificate_for_which_there_is_no_descriptor_is_told_and_fails_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(context: ssl.SSLContext, pem: bytes) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("wellhead.edge.challenges.load_pem", load)
    challenges = Challenges(Clock())
    challenges.put_alpn(NAME, "a certificate", "its key")
    assert challenges.alpn(NAME) is None and "Too many open files" in caplog.text


def ask(target: str, host: str = "my-agent.localhost", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_head_has_the_length_of_the_answer_and_not_the_answer(house: House) -> None:
    house.challenges.put_http("my-agent.localhost", "one", "the answer")
    visit = house.visit()
    visit.says(ask("/.well-known/acme-challenge/one", method="HEAD"))
    await asyncio.sleep(0)
    reply = visit.transport.take()
    assert status(reply) == 200 and b"Content-Length: 10\r\n" in reply and reply.endswith(b"\r\n\r\n")


async def test_a_tenant_is_not_asked_whatever_the_method_or_the_upgrade(house: House) -> None:
    door = house.tunnel("my-agent")
    target = "/.well-known/acme-challenge/one"
    upgrade = (
        f"GET {target} HTTP/1.1\r\nHost: my-agent.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    for request in (ask(target), ask(target, method="POST"), ask(target, method="OPTIONS"), upgrade):
        assert status(house.visit().says(request)) == 404
    absolute = f"http://my-agent.localhost{target}"
    assert status(house.visit().says(ask(absolute))) == 404
    assert not door.opened
    assert house.lines[0].reason == "no-challenge"


async def test_an_authority_is_answered_where_the_control_plane_is_not_served(house: House) -> None:
    house.challenges.put_http("localhost", "one", "the answer")
    visit = house.visit(local=False)
    visit.says(ask("/.well-known/acme-challenge/one", "localhost"))
    await asyncio.sleep(0)
    assert visit.transport.take().endswith(b"the answer")
    assert status(visit.says(ask("/", "localhost"))) == 421
