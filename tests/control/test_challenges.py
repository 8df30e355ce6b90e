"""What the control plane has the edge answer, over a real feed."""

from __future__ import annotations

import asyncio

import pytest

from tests.control.test_feed import follower, joined, until
from tests.kit.certs import self_signed
from wellhead.control import feed as control_feed
from wellhead.control.challenges import Challenges, EdgesChallenges
from wellhead.control.store import Store
from wellhead.edge.follower import Follower
from wellhead.errors import IssuerError, LinkError
from wellhead.wire.feed import CertificatePut

__all__ = ["follower"]

NAME = "a.example.org"


async def test_when_a_put_returns_the_edge_has_it_and_when_a_removal_returns_it_has_not(
    follower: Follower,
) -> None:
    async with joined(follower) as two:
        challenges: Challenges = EdgesChallenges(two.feed.tell)
        await challenges.put_http(NAME, "token", "answer")
        assert follower.challenges.http(NAME, "token") == b"answer"
        key, certificate = self_signed(NAME)
        await challenges.put_alpn(NAME, certificate.decode(), key.decode())
        assert follower.challenges.alpn(NAME) is not None
        await challenges.remove(NAME, "token")
        assert follower.challenges.http(NAME, "token") is None
        await challenges.remove(NAME)
        assert follower.challenges.alpn(NAME) is None


async def test_many_at_once_are_all_there_when_their_puts_return(follower: Follower) -> None:
    async with joined(follower) as two:
        challenges = EdgesChallenges(two.feed.tell)
        await asyncio.gather(*(challenges.put_http(NAME, f"t{n}", str(n)) for n in range(50)))
        assert [follower.challenges.http(NAME, f"t{n}") for n in range(50)] == [
            str(n).encode() for n in range(50)
        ]


async def test_an_edge_that_does_not_answer_or_is_gone_is_an_error(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_feed, "TELL_SECONDS", 0.05)
    async with joined(follower) as two:
        challenges = EdgesChallenges(two.feed.tell)
        two.edge.pause_reading()
        with pytest.raises(IssuerError, match=r"does not answer for a\.example\.org"):
            await challenges.put_http(NAME, "token", "answer")
        two.edge.abort()
        await until(lambda: two.feed.over.done())
        with pytest.raises(IssuerError, match="does not answer"):
            await challenges.remove(NAME, "token")
        with pytest.raises(LinkError):
            await two.feed.tell(CertificatePut([NAME]))


async def test_new_certificates_are_told_of_and_wanted_ones_asked_for(
    follower: Follower, store: Store
) -> None:
    told, wanted = list[int](), list[str]()
    follower.on_certificates = lambda: told.append(1)
    follower.want("early.example.org")  # nobody is there yet: it is asked for again
    async with joined(follower) as two:
        two.feed.on_wanted = wanted.append
        await two.feed.tell_all(store.directory, made_key=False)
        await until(lambda: two.link.whole.done())
        await two.feed.tell(CertificatePut([NAME, "*.example.org"]))
        assert told == [1]
        follower.want(NAME)
        await until(lambda: bool(wanted))
        assert wanted == [NAME]


async def test_the_edge_answers_on_while_the_control_plane_is_away(follower: Follower) -> None:
    async with joined(follower) as two:
        await EdgesChallenges(two.feed.tell).put_http(NAME, "token", "answer")
    assert follower.challenges.http(NAME, "token") == b"answer"
