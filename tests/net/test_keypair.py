from __future__ import annotations

import datetime as dt
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kit.certs import Root, handshake, key_pem, names_of, shown
from wellhead import issued
from wellhead.errors import LocalStateError
from wellhead.net.keypair import KeyPair, read_issued, read_operators

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def root() -> Root:
    return Root()


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def read(root: Root, directory: Path, pair: tuple[str, str]) -> KeyPair:
    return read_operators(*root.put(directory, "a", pair))


def test_a_pair_knows_its_names_its_time_and_its_fingerprint(root: Root, tmp_path: Path) -> None:
    chain, key = root.pair("*.Example.org", "EXAMPLE.org")
    pair = read(root, tmp_path, (chain + root.pem, key))
    leaf = x509.load_pem_x509_certificate(chain.encode())
    assert pair.names == {"*.example.org", "example.org"}
    assert (pair.begins, pair.ends) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert pair.fingerprint == leaf.fingerprint(hashes.SHA256()).hex()
    assert "PRIVATE" not in repr(pair)


def test_a_client_is_shown_the_certificate_and_its_issuers(root: Root, tmp_path: Path) -> None:
    chain, key = root.pair("a.example.org")
    pair = read(root, tmp_path, (chain + root.pem, key))
    found = handshake(pair.context(["http/1.1"]), root.trust(["http/1.1"]), "a.example.org")
    assert names_of(shown(found)) == ["a.example.org"]
    assert found.selected_alpn_protocol() == "http/1.1"


def test_certificate_and_key_may_be_in_one_file(root: Root, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_text("".join(root.pair("a.example.org")))
    assert read_operators(both, both).names == {"a.example.org"}


def with_rsa(bits: int) -> tuple[str, str]:
    """A certificate that signed itself."""
    key, name = rsa.generate_private_key(65537, bits), x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now() - DAY).not_valid_after(now() + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.org")]), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return certificate.public_bytes(Encoding.PEM).decode(), key_pem(key)


def test_rsa_keys_are_served_too(root: Root, tmp_path: Path) -> None:
    chain, key = with_rsa(2048)
    pair = read(root, tmp_path, (chain, key))
    client = ssl.create_default_context(cadata=chain)
    assert names_of(shown(handshake(pair.context([]), client, "a.org"))) == ["a.org"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_key_may_be_its_groups(root: Root, tmp_path: Path, mode: int) -> None:
    chain_file, key_file = root.put(tmp_path, "a", root.pair("a.org"))
    key_file.chmod(mode)
    assert read_operators(chain_file, key_file).names == {"a.org"}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_read_or_write_is_refused(root: Root, tmp_path: Path, mode: int) -> None:
    chain_file, key_file = root.put(tmp_path, "a", root.pair("a.org"))
    key_file.chmod(mode)
    with pytest.raises(LocalStateError, match=rf"a\.key has mode {mode:o}, expected 600 or 640; run: chmod"):
        read_operators(chain_file, key_file)


def test_files_may_be_symbolic_links_as_certbot_makes_them(root: Root, tmp_path: Path) -> None:
    for path in root.put(tmp_path, "a", root.pair("a.org")):
        (tmp_path / f"live{path.suffix}").symlink_to(path)
    assert read_operators(tmp_path / "live.pem", tmp_path / "live.key").names == {"a.org"}


def encrypted(root: Root) -> tuple[str, str]:
    return root.pair("a.org")[0], key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret")


BAD: dict[str, tuple[Callable[[Root], tuple[str, str]], str]] = {
    "no-pem": (lambda root: ("no pem", root.pair("a.org")[1]), r"a\.pem holds no certificate in PEM form"),
    "empty": (lambda root: ("", ""), r"a\.pem holds no certificate in PEM form"),
    "no-key": (lambda root: (root.pair("a.org")[0], "no key"), r"a\.key holds no readable private key"),
    "other-key": (
        lambda root: (root.pair("a.org")[0], root.pair("a.org")[1]),
        r"a\.key is not the key of the first certificate in .*a\.pem",
    ),
    "no-name": (lambda root: root.pair(), r"certifies no hostname"),
    "encrypted": (encrypted, r"a\.key is encrypted: the server needs the key without a passphrase"),
    "weak": (lambda root: with_rsa(1024), r"a\.pem cannot be served: ee key too small"),
    "half": (lambda root: (root.pair("a.org")[0][:300], ""), r"a\.pem holds no certificate"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_a_text_that_names_it(root: Root, tmp_path: Path, case: str) -> None:
    make, says = BAD[case]
    with pytest.raises(LocalStateError, match=says):
        read(root, tmp_path, make(root))


def test_files_that_are_not_there_and_binary_ones_are_refused(root: Root, tmp_path: Path) -> None:
    chain_file, key_file = root.put(tmp_path, "a", root.pair("a.org"))
    with pytest.raises(LocalStateError, match=r"cannot read .*b\.pem: no such file"):
        read_operators(tmp_path / "b.pem", key_file)
    with pytest.raises(LocalStateError, match=r"cannot read .*b\.key: no such file"):
        read_operators(chain_file, tmp_path / "b.key")
    with pytest.raises(LocalStateError, match="is not a file"):
        read_operators(chain_file, tmp_path)
    chain_file.write_bytes(b"\xff\x00")
    with pytest.raises(LocalStateError, match="holds no certificate in PEM form"):
        read_operators(chain_file, key_file)
    key_file.write_bytes(b"\xff\x00")
    with pytest.raises(LocalStateError, match="cannot read"):
        read_operators(root.put(tmp_path, "c", root.pair("a.org"))[0], key_file)


@pytest.mark.parametrize(
    ("begins", "ends", "says"),
    [
        (-2 * DAY, -DAY, r"ended on \d{4}-\d\d-\d\d \d\d:\d\d UTC"),
        (DAY, 2 * DAY, r"begins on \d{4}-\d\d-\d\d \d\d:\d\d UTC only"),
        (dt.timedelta(minutes=4), DAY, ""),  # the issuer's clock may be a little ahead
        (-DAY, DAY, ""),
    ],
)
def test_a_pair_says_why_it_is_not_good_now(
    root: Root, tmp_path: Path, begins: dt.timedelta, ends: dt.timedelta, says: str
) -> None:
    pair = read(root, tmp_path, root.pair("a.org", begins=begins, ends=ends))
    reason = pair.out_of_time(now())
    assert bool(reason) == bool(says) and re.search(says, reason)


def test_an_issued_pair_is_read_whichever_of_its_two_keys_belongs_to_it(root: Root, tmp_path: Path) -> None:
    chain, key = root.pair("a.org")
    entry = issued.put(tmp_path, "a.org", chain_pem=chain, key_pem=key, meta={})
    assert (pair := read_issued(entry)) is not None and pair.names == {"a.org"}
    # As a crash leaves it: the chain is new, the old key has still its place.
    other, other_key = root.pair("b.org")
    (entry / "next-key.pem").touch(0o600)
    (entry / "next-key.pem").write_text(other_key)
    assert (pair := read_issued(entry)) is not None and pair.names == {"a.org"}
    (entry / "fullchain.pem").write_text(other)
    assert (pair := read_issued(entry)) is not None and pair.names == {"b.org"}
    (entry / "next-key.pem").unlink()
    with pytest.raises(LocalStateError, match=r"key\.pem is not the key of the first certificate"):
        read_issued(entry)
    (entry / "fullchain.pem").unlink()
    assert read_issued(entry) is None
