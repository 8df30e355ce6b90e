from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.kit.certs import DAY, HOUR, handshake, shown
from tests.kit.signing import NAME, Signer, files_in, now
from wellhead.agent.certificate import CHAIN, KEY, REQUEST, CertificateFiles, make_request
from wellhead.errors import InputError, LocalStateError


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return files_in(tmp_path)


@pytest.fixture
def signer() -> Signer:
    return Signer()


def keep(files: CertificateFiles, signer: Signer) -> None:
    key = files.key()
    files.answered(signer.sign_now(files.request(key)), key, now())


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(request: x509.CertificateSigningRequest) -> list[str]:
    found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def test_a_request_is_for_the_hostname_and_nothing_else() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.load_pem_x509_csr(make_request(key, NAME).encode())
    assert request.is_signature_valid and request.public_key() == key.public_key()
    assert names(request) == [NAME] and len(request.extensions) == 1
    assert [part.value for part in request.subject] == [NAME]
    assert request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def test_a_name_too_long_for_a_common_name_is_an_alternative_name_only() -> None:
    long = "a" * 60 + ".example.org"
    request = x509.load_pem_x509_csr(make_request(ec.generate_private_key(ec.SECP256R1()), long).encode())
    assert names(request) == [long] and not list(request.subject)
    fits = "a" * (64 - len(".example.org")) + ".example.org"
    request = x509.load_pem_x509_csr(make_request(ec.generate_private_key(ec.SECP256R1()), fits).encode())
    assert len(list(request.subject)) == 1


def test_what_was_signed_is_found_again_and_can_be_served(files: CertificateFiles, signer: Signer) -> None:
    assert files.load(now()) is None
    keep(files, signer)
    pair = files.load(now())
    assert pair is not None and pair.names == {NAME}
    peer = handshake(pair.context(("h2",)), signer.root.trust(("h2",)), NAME)
    assert shown(peer).not_valid_after_utc == pair.ends and peer.selected_alpn_protocol() == "h2"
    assert files.signed_at is not None and abs(files.signed_at - now()) < HOUR


def test_nobody_else_can_read_the_files(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    assert mode(files.directory) == 0o700
    assert {path.name: mode(path) for path in files.directory.iterdir()} == {KEY: 0o600, CHAIN: 0o600}


def test_a_request_without_an_answer_is_asked_again_as_it_was(
    files: CertificateFiles, signer: Signer
) -> None:
    first = files.request(files.key())
    assert mode(files.directory / REQUEST) == 0o600
    again = CertificateFiles(files.directory.parent.parent, "my-agent", NAME)
    assert again.request(again.key()) == first
    again.answered(signer.sign_now(first), again.key(), now())
    assert again.request(again.key()) != first, "a renewal is another order"


def test_a_request_of_another_key_or_name_is_not_asked_again(files: CertificateFiles) -> None:
    first = files.request(files.key())
    assert files.request(files.new_key()) != first
    other = CertificateFiles(files.directory.parent.parent, "my-agent", "other.localhost")
    assert names(x509.load_pem_x509_csr(other.request(other.key()).encode())) == ["other.localhost"]
    (files.directory / REQUEST).write_text("garbage")
    assert "BEGIN CERTIFICATE REQUEST" in files.request(files.key())


def test_a_certificate_of_another_key_does_not_fit(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    files.new_key()
    with pytest.raises(LocalStateError, match="not the key"):
        files.load(now())


def test_an_expired_certificate_does_not_fit(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    with pytest.raises(LocalStateError, match="ended on"):
        files.load(now() + 91 * DAY)


def test_a_certificate_for_another_name_does_not_fit(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    renamed = CertificateFiles(files.directory.parent.parent, "my-agent", "other.localhost")
    with pytest.raises(LocalStateError, match="not for other.localhost"):
        renamed.load(now())


@pytest.mark.parametrize("name", [KEY, CHAIN])
def test_a_damaged_file_does_not_fit(files: CertificateFiles, signer: Signer, name: str) -> None:
    keep(files, signer)
    (files.directory / name).write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(LocalStateError, match=name):
        files.load(now())


@pytest.mark.parametrize("text", ["garbage", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_cannot_be_read_is_made_anew(files: CertificateFiles, text: str) -> None:
    first = files.key()
    assert files.key().private_numbers() == first.private_numbers()
    (files.directory / KEY).write_text(text)
    assert files.key().private_numbers() != first.private_numbers()


def test_a_key_that_others_can_read_is_refused(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    (files.directory / KEY).chmod(0o644)
    with pytest.raises(LocalStateError, match="expected 600"):
        files.load(now())


def test_a_directory_that_others_may_write_into_is_refused(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    files.directory.chmod(0o777)
    for read in (lambda: files.load(now()), files.key, files.new_key):
        with pytest.raises(LocalStateError, match="others may write"):
            read()


@dataclass
class Answer:
    cert_pem: str
    chain_pem: str


def test_an_answer_that_does_not_fit_is_not_kept(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    before = (files.directory / CHAIN).read_text()
    for pem, _ in (signer.root.pair(NAME), signer.root.pair("other.localhost")):
        with pytest.raises(LocalStateError):
            files.answered(Answer(pem, ""), files.key(), now())
    assert (files.directory / CHAIN).read_text() == before


def test_a_chain_without_a_newline_between_its_parts_is_put_right(
    files: CertificateFiles, signer: Signer
) -> None:
    key = files.key()
    signed = signer.sign_now(files.request(key))
    answer = Answer(signed.cert_pem.rstrip("\n"), signer.root.pem.rstrip("\n"))
    files.answered(answer, key, now())
    chain = x509.load_pem_x509_certificates((files.directory / CHAIN).read_bytes())
    assert len(chain) == 2 and files.load(now()) is not None


def test_a_disk_that_takes_nothing_keeps_no_certificate_from_visitors(
    files: CertificateFiles, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = files.key()
    signed = signer.sign_now(files.request(key))

    def full(path: Path, text: str) -> None:
        raise LocalStateError(f"cannot write {path}: no space left on device")

    monkeypatch.setattr("wellhead.private.write", full)
    assert files.answered(signed, key, now()).names == {NAME}


def test_nothing_outside_the_tunnels_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        CertificateFiles(tmp_path, "../../etc", NAME)


def test_times_are_utc(files: CertificateFiles, signer: Signer) -> None:
    keep(files, signer)
    assert files.signed_at is not None and files.signed_at.tzinfo is dt.UTC
