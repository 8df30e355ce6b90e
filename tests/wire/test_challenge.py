from __future__ import annotations

import pytest

from wellhead.wire.challenge import challenge_token

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
PLACE = "/.well-known/acme-challenge"


def test_the_token_is_read_where_it_stands_as_the_rfc_writes_it() -> None:
    assert challenge_token(f"{PLACE}/{TOKEN}".encode()) == TOKEN


@pytest.mark.parametrize(
    "target",
    [
        PLACE,
        f"{PLACE}/",
        f"{PLACE}?a=b",
        f"{PLACE}/{TOKEN}?a=b",
        f"{PLACE}/{TOKEN}/",
        f"{PLACE}/a.b",
        f"{PLACE}/a/b",
        f"{PLACE}/" + "a" * 513,
        f"/{PLACE}/{TOKEN}",
        f"//.well-known//acme-challenge//{TOKEN}",
        f"/./.well-known/./acme-challenge/{TOKEN}",
        f"/a/..{PLACE}/{TOKEN}",
        f"/../..{PLACE}/{TOKEN}",
        f"{PLACE}/../{TOKEN}",
        f"{PLACE}/../../{TOKEN}",
        f"/.well-known/a/../acme-challenge/{TOKEN}",
        f"/.WELL-known/ACME-Challenge/{TOKEN}",
        f"/%2ewell-known/acme-challenge/{TOKEN}",
        f"/.well-known/acme%2Dchallenge/{TOKEN}",
        f"/.well-known%2facme-challenge%2F{TOKEN}",
        f"/%2e%77%65%6c%6c-known/%61%63%6d%65-challenge/{TOKEN}",
        f"/a/%2e%2e/.well-known/acme-challenge/{TOKEN}",
        f"\\.well-known\\acme-challenge\\{TOKEN}",
        f"/.well-known%5Cacme-challenge/{TOKEN}",
        f"/.well-known;a=b/acme-challenge;c/{TOKEN}",
        f"{PLACE}/%E4%F6",
    ],
)
def test_whatever_a_server_could_take_for_the_place_is_the_place_and_has_no_token(target: str) -> None:
    assert challenge_token(target.encode()) == ""


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "",
        "/.well-known/security.txt",
        "/.well-known/acme-challenges/a",
        "/.well-known/acme-challenge2",
        "/docs/.well-known/acme-challenge/a",
        "/a?next=/.well-known/acme-challenge/a",
        "/acme-challenge/a",
        "/%zz%",
        "/%2525/acme",
        "/caf%C3%A9",
        "/well-known/acme-challenge/a",
    ],
)
def test_every_other_path_is_the_tenants(target: str) -> None:
    assert challenge_token(target.encode()) is None
