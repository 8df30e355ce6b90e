"""What an agent asks the edge for; that it is what the SDKs ask is in tests/wire/test_inkbox_vectors.py."""

from __future__ import annotations

from wellhead.wire.intake_calls import API_KEY, SECRET, Caller

OURS = Caller(b"z.test", b"id", (API_KEY, b"key"), user_agent=b"wellhead-python/1")


def test_a_size_of_the_pool_is_asked_for_only_where_one_is_wanted() -> None:
    assert b"x-pool-size" not in dict(OURS.hello())
    assert dict(OURS.hello(4))[b"x-pool-size"] == b"4"


def test_an_intake_tells_the_session_and_no_credential() -> None:
    said = dict(OURS.intake(3, b"token"))
    assert said[b"x-owner-token"] == b"token" and said[b"x-pool-slot"] == b"3"
    assert b"key" not in said.values()


def test_an_intake_that_is_asked_again_is_the_same_list() -> None:
    assert OURS.intake(1, b"a") is OURS.intake(1, b"a")
    assert OURS.intake(1, b"b") != OURS.intake(1, b"a")


def test_everything_else_tells_who_asks() -> None:
    for fields in (OURS.hello(), OURS.response(b"r"), OURS.websocket(b"w"), OURS.tcp(b"t")):
        said = dict(fields)
        assert (said[b"x-tunnel-id"], said[b"x-api-key"]) == (b"id", b"key")
        assert said[b"user-agent"] == b"wellhead-python/1"
    older = dict(Caller(b"z.test", b"id", (SECRET, b"s")).response(b"r"))
    assert older[b"x-tunnel-secret"] == b"s" and b"user-agent" not in older


def test_pseudo_headers_stand_first() -> None:
    for fields in (
        OURS.hello(1),
        OURS.intake(0, b"t"),
        OURS.response(b"r"),
        OURS.websocket(b"w"),
        OURS.tcp(b"t"),
    ):
        pseudo = [name[:1] == b":" for name, _ in fields]
        assert pseudo == sorted(pseudo, reverse=True)
