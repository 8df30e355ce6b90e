from __future__ import annotations

import stat
from pathlib import Path

import pytest

from wellhead import issued, private
from wellhead.errors import LocalStateError


def put(directory: Path, name: str = "a.example.org", *, chain: str = "chain\n", key: str = "key\n") -> Path:
    return issued.put(directory, name, chain_pem=chain, key_pem=key, meta={"issuer": "acme"})


def test_what_is_put_is_found_again_by_its_owner_alone(tmp_path: Path) -> None:
    entry = put(tmp_path / "certificates")
    assert issued.get(entry) == issued.Files("chain\n", ("key\n",))
    assert issued.meta(entry) == {"name": "a.example.org", "issuer": "acme"}
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in entry.iterdir()} == {0o600}
    assert sorted(file.name for file in entry.iterdir()) == ["fullchain.pem", "key.pem", "meta.json"]


def test_a_wildcard_has_a_directory_of_its_own(tmp_path: Path) -> None:
    assert put(tmp_path, "*.example.org").name == "_wildcard.example.org"
    assert put(tmp_path, "example.org").name == "example.org"


def test_what_is_dropped_is_gone_and_its_neighbours_stay(tmp_path: Path) -> None:
    entry, other = put(tmp_path), put(tmp_path, "b.example.org")
    for _ in range(2):
        issued.drop(tmp_path, "a.example.org")
    assert not entry.exists() and issued.get(other) is not None
    with pytest.raises(LocalStateError, match="is no name for a directory"):
        issued.drop(tmp_path, "..")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "*", "*.", "a\0b", "/etc", ".hidden", "é"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalStateError, match="is no name for a directory"):
        put(tmp_path, name)


@pytest.mark.parametrize("failing", ["next-key.pem", "fullchain.pem", "meta.json"])
def test_a_crash_at_any_file_leaves_a_chain_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    entry = put(tmp_path, chain="old chain", key="old key")
    write = private.write

    def crashing(path: Path, text: str) -> None:
        if path.name == failing:
            raise LocalStateError("the disk is full")
        write(path, text)

    monkeypatch.setattr(private, "write", crashing)
    with pytest.raises(LocalStateError, match="the disk is full"):
        put(tmp_path, chain="new chain", key="new key")
    found = issued.get(entry)
    assert found is not None
    assert found.chain_pem.removesuffix("chain") + "key" in found.keys


def test_a_crash_before_the_key_has_its_place_leaves_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = put(tmp_path, chain="old chain", key="old key")

    def crashing(path: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda path, to: crashing(path, to) if to.name == "key.pem" else replace(path, to)
    )
    with pytest.raises(LocalStateError, match="Input/output error"):
        put(tmp_path, chain="new chain", key="new key")
    assert issued.get(entry) == issued.Files("new chain", ("old key", "new key"))


def test_an_entry_without_a_certificate_is_none_and_one_without_a_key_is_an_error(tmp_path: Path) -> None:
    assert issued.get(tmp_path / "a.example.org") is None
    entry = put(tmp_path)
    (entry / "key.pem").unlink()
    with pytest.raises(LocalStateError, match=r"key\.pem is missing beside fullchain\.pem"):
        issued.get(entry)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    entry = put(tmp_path)
    (entry / "key.pem").chmod(0o640)
    with pytest.raises(LocalStateError, match="mode 640, expected 600"):
        issued.get(entry)


@pytest.mark.parametrize("text", ["", "[]", "{", "1"])
def test_facts_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    private.write(tmp_path / "meta.json", text)
    assert issued.meta(tmp_path) == {}
