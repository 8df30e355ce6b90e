from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.kit.certs import authority, handshake, names_of, shown, trusting
from wellhead.errors import InputError, LocalStateError
from wellhead.net.authority import LEAF_DAYS, PASSING, LocalAuthority


def served(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str
) -> tuple[x509.Certificate, ssl.SSLObject]:
    """The certificate that a client is shown and accepts, by a handshake in memory."""
    theirs = handshake(server, client, name)
    return shown(theirs), theirs


@pytest.mark.parametrize("name", ["a.localhost", "localhost", "a-b.c-d.e.example.org", "_x.localhost", "1.2"])
def test_a_client_that_trusts_the_ca_accepts_every_name_that_was_minted(tmp_path: Path, name: str) -> None:
    ca = authority(tmp_path)
    certificate, _ = served(ca.leaf_context(name), trusting(ca), name)
    assert names_of(certificate) == [name]


def test_a_name_longer_than_a_common_name_may_be_is_served(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    name = "a" * 63 + "." + "b" * 63 + ".localhost"
    assert names_of(served(ca.leaf_context(name), trusting(ca), name)[0]) == [name]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "192.0.2.7", "2001:db8::7"])
def test_the_certificate_for_addresses_covers_loopback_and_what_was_named(
    tmp_path: Path, address: str
) -> None:
    ca = LocalAuthority(tmp_path / "ca", addresses=["192.0.2.7", "2001:db8::7", "127.0.0.1"])
    served(ca.address_context(), trusting(ca), address)


def test_a_leaf_says_what_it_may_be_used_for_and_for_how_long(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    leaf, _ = served(ca.leaf_context("a.localhost"), trusting(ca), "a.localhost")
    now = dt.datetime.now(dt.UTC)
    extensions = leaf.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    root = x509.load_pem_x509_certificate(ca.ca_file.read_bytes())
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer == root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert leaf.not_valid_before_utc <= now - dt.timedelta(minutes=59)  # clocks of clients differ
    assert now + dt.timedelta(days=30) < leaf.not_valid_after_utc < now + dt.timedelta(days=397)


def test_alpn_is_agreed_by_the_list_asked_for(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    client = trusting(ca, ["wellhead/1", "http/1.1"])
    agreed = served(ca.leaf_context("a.localhost", ["wellhead/1"]), client, "a.localhost")[1]
    assert agreed.selected_alpn_protocol() == "wellhead/1"
    agreed = served(ca.leaf_context("a.localhost"), client, "a.localhost")[1]
    assert agreed.selected_alpn_protocol() == "http/1.1"


def test_a_context_is_kept_and_the_least_used_one_forgotten(tmp_path: Path) -> None:
    ca = authority(tmp_path, contexts=2)
    first, second = ca.leaf_context("a.localhost"), ca.leaf_context("b.localhost")
    assert ca.leaf_context("a.localhost") is first
    ca.leaf_context("c.localhost")
    assert ca.leaf_context("a.localhost") is first
    assert ca.leaf_context("b.localhost") is not second


def test_a_context_that_is_not_kept_takes_no_others_place(tmp_path: Path) -> None:
    ca = authority(tmp_path, contexts=1)
    kept = ca.leaf_context("a.localhost")
    ca.leaf_context("b.localhost", keep=False)
    assert ca.leaf_context("a.localhost", keep=False) is kept
    assert ca.leaf_context("a.localhost") is kept and not ca.keeps("b.localhost")


def test_who_comes_back_to_a_name_of_which_there_is_nothing_sees_the_same_certificate(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    shown = ca.leaf_context("a.localhost", keep=False)
    assert ca.leaf_context("a.localhost", keep=False) is shown
    for n in range(PASSING):
        ca.leaf_context(f"b{n}.localhost", keep=False)
    assert ca.leaf_context("a.localhost", keep=False) is not shown


def test_a_context_is_made_anew_before_it_ends_and_when_the_clock_goes_back(tmp_path: Path) -> None:
    now = [dt.datetime.now(dt.UTC)]
    ca = LocalAuthority(tmp_path / "ca", clock=lambda: now[0])
    first = ca.leaf_context("a.localhost")
    now[0] += dt.timedelta(days=LEAF_DAYS * 2 // 3 + 1)
    second = ca.leaf_context("a.localhost")
    assert second is not first
    now[0] -= dt.timedelta(hours=25)
    third = ca.leaf_context("a.localhost")
    assert third is not second
    assert ca.leaf_context("a.localhost") is third


@pytest.mark.parametrize(
    "name",
    [
        "*.localhost",
        "A.localhost",
        "",
        "a..localhost",
        "a.localhost.",
        "a b",
        "ä.localhost",
        "a\0b",
        "x" * 64,
    ],
)
def test_what_is_no_hostname_gets_no_certificate(tmp_path: Path, name: str) -> None:
    ca = authority(tmp_path)
    with pytest.raises(InputError):
        ca.leaf_context(name)


def test_a_second_start_finds_the_same_authority(tmp_path: Path) -> None:
    first = authority(tmp_path)
    pem = first.ca_file.read_bytes()
    second = authority(tmp_path)
    assert second.ca_file.read_bytes() == pem
    served(second.leaf_context("a.localhost"), trusting(first), "a.localhost")


def test_a_start_that_was_cut_off_after_the_key_is_completed(tmp_path: Path) -> None:
    first = authority(tmp_path)
    key = (first.ca_file.parent / "ca.key").read_bytes()
    first.ca_file.unlink()
    second = authority(tmp_path)
    assert (second.ca_file.parent / "ca.key").read_bytes() == key
    served(second.leaf_context("a.localhost"), trusting(second), "a.localhost")


def test_files_are_private_from_the_start(tmp_path: Path) -> None:
    directory = authority(tmp_path).ca_file.parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "ca.key").stat().st_mode) == 0o600
    assert sorted(os.listdir(directory)) == ["ca.key", "ca.pem"]


@pytest.mark.parametrize("url", ["http://zone.test:8080/ca.crl", None])
def test_what_is_signed_says_where_the_list_of_void_certificates_is(tmp_path: Path, url: str | None) -> None:
    ca = LocalAuthority(tmp_path / "ca", void_list=url)
    now, key = dt.datetime.now(dt.UTC), ca.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = ca.certify(key, ["a.test"], now, now + dt.timedelta(days=1))
    try:
        (place,) = signed.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert place.full_name == [x509.UniformResourceIdentifier(str(url))]
    except x509.ExtensionNotFound:
        assert url is None


def test_a_certificate_that_others_may_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    authority(tmp_path).ca_file.chmod(0o644)
    authority(tmp_path)


def damage_key(directory: Path) -> None:
    (directory / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def lose_key(directory: Path) -> None:
    (directory / "ca.key").unlink()


def damage_certificate(directory: Path) -> None:
    (directory / "ca.pem").write_bytes(b"\xff not a certificate")


def swap_certificate(directory: Path) -> None:
    other = LocalAuthority(directory.parent / "other")
    shutil.copy(other.ca_file, directory / "ca.pem")


def link_certificate(directory: Path) -> None:
    (directory / "ca.pem").rename(directory / "real.pem")
    (directory / "ca.pem").symlink_to("real.pem")


def link_key(directory: Path) -> None:
    (directory / "ca.key").rename(directory / "real.key")
    (directory / "ca.key").symlink_to("real.key")


def open_key(directory: Path) -> None:
    (directory / "ca.key").chmod(0o640)


def replace_key_by_rsa(directory: Path) -> None:

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (directory / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage_key, "no readable private key"),
        (lose_key, "ca.key is missing"),
        (damage_certificate, "no readable CA certificate"),
        (swap_certificate, "does not belong to the key"),
        (link_certificate, "symbolic link"),
        (link_key, "symbolic link"),
        (open_key, "640"),
        (replace_key_by_rsa, "another kind"),
    ],
)
def test_files_that_are_unsafe_or_do_not_fit_are_refused_by_name(
    tmp_path: Path, harm: object, words: str
) -> None:
    directory = authority(tmp_path).ca_file.parent
    assert callable(harm)
    harm(directory)
    with pytest.raises(LocalStateError, match=words):
        authority(tmp_path)


def test_an_authority_that_ended_is_refused(tmp_path: Path) -> None:
    LocalAuthority(tmp_path / "ca", clock=lambda: dt.datetime(2010, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(LocalStateError, match="ends on 2019-12-30"):
        LocalAuthority(tmp_path / "ca")


@pytest.mark.needs("openssl")
def test_openssl_accepts_the_ca_in_its_strict_mode(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    leaf, _ = served(ca.leaf_context("a.localhost"), trusting(ca), "a.localhost")

    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    arguments = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(ca.ca_file)]
    done = subprocess.run(
        [*arguments, str(tmp_path / "leaf.pem")], capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 0, done.stderr


def test_no_descriptor_is_left_open_by_minting(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    ca.leaf_context("warm.localhost")
    with socket.socket() as probe:
        before = probe.fileno()
    for n in range(20):
        ca.leaf_context(f"n{n}.localhost")
    with socket.socket() as probe:
        assert probe.fileno() == before


def test_a_certificate_for_anothers_key_ends_with_our_own_at_the_latest(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    now = dt.datetime.now(dt.UTC)
    leaf = ours.certify(key, ["a.localhost"], now, now + dt.timedelta(days=36500))
    assert leaf.public_key() == key and leaf.not_valid_after_utc == ours.certificate.not_valid_after_utc
    leaf.verify_directly_issued_by(ours.certificate)
    with pytest.raises(InputError):
        ours.certify(key, ["a.localhost", "*.localhost"], now, now + dt.timedelta(days=1))


def test_openssl_refuses_what_is_on_the_revocation_list(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    kept, void = (
        ours.certify(key, [name], now, now + dt.timedelta(days=1)) for name in ("a.localhost", "b.localhost")
    )
    found = ours.revocation_list([(void.serial_number, now)], now, now + dt.timedelta(days=7))
    assert found.is_signature_valid(ours.certificate.public_key())  # type: ignore[arg-type]  # it is an EC key
    (tmp_path / "crl.pem").write_bytes(found.public_bytes(Encoding.PEM))
    says = []
    for leaf in (kept, void):
        (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        done = subprocess.run(
            ["openssl", "verify", "-crl_check", "-CAfile", str(ours.ca_file), "-CRLfile",
             str(tmp_path / "crl.pem"), str(tmp_path / "leaf.pem")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        says.append((done.returncode, "certificate revoked" in done.stderr))
    assert says == [(0, False), (2, True)]
