"""The records' feed: what one end writes the other reads, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from wellhead.errors import ProtocolError
from wellhead.model.access import ADMIN, Scope, ScopeKind
from wellhead.model.changes import Change, KeyDropped, KeyPut, SessionsEnded, TunnelDropped, TunnelPut
from wellhead.model.records import (
    ApiKey,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.model.snapshot import Presence
from wellhead.wire import feed
from wellhead.wire.feed import (
    AlpnChallenge,
    Ask,
    CertificatePut,
    ChallengeOver,
    Changes,
    Failed,
    FromControl,
    FromEdge,
    Here,
    HttpChallenge,
    KeysUsed,
    Mark,
    Presences,
    Seen,
    Stop,
    Taken,
    Trespass,
    Wanted,
    Whole,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, UTC)
VIEW = TunnelView(TunnelId("t"), "my-agent", OrganizationId("ours"), TunnelStatus.ACTIVE, TlsMode.EDGE)
KEY = ApiKey(KeyId("k"), OrganizationId("ours"), "abcd", (ADMIN, Scope(ScopeKind.TUNNEL, "t")), NOW, NOW)
DIGEST = bytes(range(32))

CHANGES: list[Change] = [
    TunnelPut(VIEW, DIGEST),
    TunnelDropped(TunnelId("t")),
    SessionsEnded(TunnelId("t")),
    KeyPut(KEY, "12345678", DIGEST),
    KeyDropped(KeyId("k"), "12345678"),
]
OF_CONTROL: list[FromControl] = [
    Changes(CHANGES),
    Whole(True),
    Mark(7),
    HttpChallenge("a.example.org", "token", "answer"),
    AlpnChallenge("a.example.org", "certificate\n", "key\n"),
    ChallengeOver("a.example.org", ""),
    CertificatePut(["*.example.org"]),
    Failed("the disk\nis full"),
    Here(),
]
OF_EDGE: list[FromEdge] = [
    Taken(7),
    Presences([Seen(TunnelId("t"), Presence(True, NOW, None, "192.0.2.7", "agent/1"))]),
    Trespass(KeyId("k"), TunnelId("t"), "192.0.2.7"),
    KeysUsed([KeyId("k")]),
    Wanted("a.example.org"),
    Stop(),
    Ask(),
]


def test_what_one_end_writes_the_other_reads_however_the_bytes_are_cut() -> None:
    told = b"".join(map(feed.from_control, OF_CONTROL))
    said = b"".join(map(feed.from_edge, OF_EDGE))
    for size in (1, 7, 1000):
        control, edge = feed.lines_of_control(), feed.lines_of_edge()
        cuts = range(0, len(told) + len(said) + size, size)
        assert [m for a, b in pairwise(cuts) for m in control.receive(told[a:b])] == OF_CONTROL
        assert [m for a, b in pairwise(cuts) for m in edge.receive(said[a:b])] == OF_EDGE


def test_what_a_person_wrote_about_a_key_stays_where_it_is() -> None:
    key = ApiKey(KeyId("k"), OrganizationId("o"), "abcd", (), NOW, label="for Bob", prefix="wh_12345678")
    (read,) = feed.lines_of_control().receive(feed.from_control(Changes([KeyPut(key, "12345678", DIGEST)])))
    assert isinstance(read, Changes) and isinstance(read.changes[0], KeyPut)
    assert (read.changes[0].key.label, read.changes[0].key.prefix) == ("", "")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\x80\x04}",
        b"[]",
        b'{"do":"no-such"}',
        b'{"do":"mark"}',
        b'{"do":"mark","number":"7"}',
        b'{"do":"mark","number":7,"more":1}',
        feed.from_edge(Stop())[:-1],  # the other end's word
        feed.from_control(Changes([TunnelPut(VIEW, DIGEST)]))[:-1].replace(b"00010203", b"zz"),
        feed.from_control(Changes([TunnelPut(VIEW, DIGEST)]))[:-1].replace(b'"active"', b'"asleep"'),
    ],
)
def test_a_line_that_is_no_message_ends_the_conversation(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="no message"):
        list(feed.lines_of_control().receive(line + b"\n"))


def test_a_complaint_shows_no_digest() -> None:
    wrong = json.loads(feed.from_control(Changes([TunnelPut(VIEW, DIGEST)])))
    wrong["changes"][0]["view"] = DIGEST.hex()
    with pytest.raises(ProtocolError) as caught:
        list(feed.lines_of_control().receive(json.dumps(wrong).encode() + b"\n"))
    assert DIGEST.hex() not in str(caught.value)


def test_a_line_without_end_is_refused() -> None:
    lines = feed.lines_of_edge()
    with pytest.raises(ProtocolError, match=f"more than {feed.LINE_MAX} bytes"):
        for _ in range(feed.LINE_MAX // 100_000 + 1):
            list(lines.receive(bytes(100_000)))
