"""Signed links to ports of sandboxes."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.model.links import KEY_BYTES, TOKEN_MAX, LinkSigner, Pass
from wellhead.model.sandboxes import new_sandbox_id

SIGNER = LinkSigner(secrets.token_bytes(KEY_BYTES))
SANDBOX = new_sandbox_id()


def test_a_link_is_good_until_it_expires() -> None:
    token = SIGNER.sign(Pass.LINK, SANDBOX, 3000, 0, 1000)
    assert len(token) <= TOKEN_MAX
    assert SIGNER.expiry(token, Pass.LINK, SANDBOX, 3000, 0, 999.9) == (1000, 3000)
    assert SIGNER.expiry(token, Pass.LINK, SANDBOX, 3000, 0, 1000) is None


def test_a_link_to_every_port_is_good_for_each() -> None:
    token = SIGNER.sign(Pass.LINK, SANDBOX, 0, 0, 1000)
    assert SIGNER.expiry(token, Pass.LINK, SANDBOX, 3000, 0, 1) == (1000, 0)


def test_a_link_is_for_its_port_its_sandbox_its_epoch_its_kind_and_its_server() -> None:
    token = SIGNER.sign(Pass.LINK, SANDBOX, 3000, 4, 1000)
    other = LinkSigner(secrets.token_bytes(KEY_BYTES))
    assert SIGNER.expiry(token, Pass.LINK, SANDBOX, 3001, 4, 1) is None
    assert SIGNER.expiry(token, Pass.LINK, new_sandbox_id(), 3000, 4, 1) is None
    assert SIGNER.expiry(token, Pass.LINK, SANDBOX, 3000, 5, 1) is None
    assert SIGNER.expiry(token, Pass.COOKIE, SANDBOX, 3000, 4, 1) is None
    assert other.expiry(token, Pass.LINK, SANDBOX, 3000, 4, 1) is None


@pytest.mark.parametrize("text", ["", "A", "=" * 40, "é" * 38, "A" * 5000, "a b", "../../etc"])
def test_what_is_no_token_is_nobodys(text: str) -> None:
    assert SIGNER.expiry(text, Pass.LINK, SANDBOX, 3000, 0, 0) is None


@given(st.integers(0, 27), st.integers(1, 255))
def test_a_link_with_one_byte_changed_is_nobodys(at: int, by: int) -> None:
    import base64

    token = SIGNER.sign(Pass.LINK, SANDBOX, 3000, 0, 1000)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[at] ^= by
    changed = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert SIGNER.expiry(changed, Pass.LINK, SANDBOX, 3000, 0, 1) is None
