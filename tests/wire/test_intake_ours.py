"""What an edge of ours says in its hello beyond what every edge says."""

from __future__ import annotations

import json

import pytest

from wellhead.wire.intake import Hello, Ours

OURS = Ours("s_1", "4b6c3f0e-0000-4000-8000-000000000001", "my-agent", ["https://my-agent.example"])


def test_what_our_edge_says_beyond_is_read_back() -> None:
    hello = Hello("token", 32, 300.0, 30.0, OURS)
    assert Hello.read(hello.encode()) == hello


def test_an_edge_that_is_not_ours_says_nothing_of_it() -> None:
    hello = Hello("token", 32, 300.0, None)
    assert b"wellhead" not in hello.encode()
    assert Hello.read(hello.encode()).ours is None


@pytest.mark.parametrize(
    "value", [None, True, [], "x", {"session": 1}, {"public_urls": "x"}, {"public_urls": ["x"] * 33},
              {"public_urls": [1]}, {"name": "a\nb"}],
)  # fmt: skip
def test_what_is_odd_there_counts_as_not_said(value: object) -> None:
    body = json.dumps({"owner_token": "token", "wellhead": value}).encode()
    assert Hello.read(body).ours is None
