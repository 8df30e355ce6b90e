"""Hello, welcome, refused and goaway: what one end writes the other reads, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import FrameError, HelloError, ProtocolError
from wellhead.wire.frames import MAX_HELLO, MAX_TEXT
from wellhead.wire.messages import GoAway, Hello, Refused, Welcome
from wellhead.wire.window import MAX_CREDIT, MIN_WINDOW

words = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=40)
features = st.lists(words, max_size=5)
windows = st.integers(MIN_WINDOW, MAX_CREDIT)
hellos = st.builds(
    Hello,
    tunnel=words,
    secret=words,
    agent=words,
    session_hint=words,
    lane=words,
    window=windows,
    features=features,
    protocol=st.integers(1, 100),
)
welcomes = st.builds(
    Welcome,
    session=words,
    tunnel_id=words,
    name=words,
    public_urls=features,
    window=windows,
    ping_seconds=st.floats(0.05, 3600),
    drain_seconds=st.floats(0, 86400),
    features=features,
)
refusals = st.builds(
    Refused, code=words, message=words, final=st.booleans(), retry_after_ms=st.integers(0, 2**32 - 1)
)


@given(hellos)
def test_a_hello_is_read_as_it_was_written(hello: Hello) -> None:
    assert Hello.decode(hello.encode()) == hello


@given(welcomes)
def test_a_welcome_is_read_as_it_was_written(welcome: Welcome) -> None:
    assert Welcome.decode(welcome.encode()) == welcome


@given(refusals)
def test_a_refusal_is_read_as_it_was_written(refused: Refused) -> None:
    assert Refused.decode(refused.encode()) == refused


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(payload: bytes) -> None:
    for record in (Hello, Welcome, Refused, GoAway):
        try:
            record.decode(payload)
        except ProtocolError:
            pass


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = [
    "protocol",
    "tunnel",
    "secret",
    "window",
    "features",
    "session",
    "name",
    "tunnel_id",
    "code",
    "final",
]


@given(st.dictionaries(st.sampled_from(MEMBERS), values))
def test_any_members_are_a_message_or_a_hello_error(members: dict[str, object]) -> None:
    payload = json.dumps(members).encode()
    for record in (Hello, Welcome, Refused):
        try:
            record.decode(payload)
        except HelloError:
            pass


def test_deep_json_is_a_hello_error() -> None:
    with pytest.raises(HelloError):
        Hello.decode(b"[" * MAX_HELLO)


def test_a_long_number_is_a_hello_error() -> None:
    with pytest.raises(HelloError):
        Hello.decode(b'{"protocol":1,"tunnel":"a","secret":"b","window":' + b"9" * 4000 + b"}")


def test_a_hello_over_its_limit_is_neither_written_nor_read() -> None:
    with pytest.raises(HelloError, match=f"at most {MAX_HELLO}"):
        Hello(tunnel="a", secret="s" * MAX_HELLO).encode()
    with pytest.raises(HelloError, match=f"at most {MAX_HELLO}"):
        Hello.decode(b" " * MAX_HELLO + b"{}")


def test_the_repr_of_a_hello_does_not_hold_its_secret() -> None:
    assert "whs_clear" not in repr(Hello(tunnel="a", secret="whs_clear"))


def test_a_refusal_is_readable_whatever_text_an_error_had() -> None:
    refused = Refused(code="quota", message="one\ntwo\x1b[31m" + "x" * 10_000)
    assert Refused.decode(refused.encode()).message == ("onetwo[31m" + "x" * 10_000)[:4096]


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.text(st.characters(codec="utf-8"), max_size=2000)
)
def test_a_goaway_is_read_as_it_was_written_but_for_a_text_that_is_too_long(
    reason: int, retry_after_ms: int, text: str
) -> None:
    message = GoAway.decode(GoAway(reason, retry_after_ms, text).encode())
    assert (message.reason, message.retry_after_ms) == (reason, retry_after_ms)
    assert text.startswith(message.text)
    assert message.text == text or len(message.text.encode()) > MAX_TEXT - 4


def test_a_goaway_of_a_wrong_length_is_a_frame_error() -> None:
    for size in (0, 7, 8 + MAX_TEXT + 1):
        with pytest.raises(FrameError):
            GoAway.decode(bytes(size))


def test_a_goaway_whose_text_is_not_utf8_is_read() -> None:
    assert GoAway.decode(bytes(8) + b"a\xff").text == "a\ufffd"
