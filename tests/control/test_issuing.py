"""What is read out of an authority's answer."""

from __future__ import annotations

import hashlib
import ssl

import pytest

from tests.kit.certs import self_signed
from wellhead.control.issuing import issued
from wellhead.errors import IssuerError


def test_the_leaf_is_told_from_its_issuers() -> None:
    leaf, issuer = (self_signed(name)[1].decode() for name in ("leaf.test", "issuer.test"))
    found = issued(leaf.rstrip() + "\n\n" + issuer)
    assert found.leaf_pem == leaf and found.chain_pem == issuer
    der = ssl.PEM_cert_to_DER_cert(leaf)
    assert found.fingerprint_sha256 == hashlib.sha256(der).hexdigest()
    assert found.not_before < found.expires_at


@pytest.mark.parametrize(
    "answer", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_answer_without_a_certificate_is_the_issuers_fault(answer: str) -> None:
    with pytest.raises(IssuerError) as refused:
        issued(answer)
    assert refused.value.reason == "bad-answer"
