from __future__ import annotations

import datetime as dt
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.certs import DAY, Root
from wellhead import issued
from wellhead.errors import SettingsError
from wellhead.net.certificate_files import CertificateFiles, Table, check
from wellhead.net.keypair import KeyPair, key_pair

ROOT = Root()


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def made(*names: str, ends: dt.timedelta = 90 * DAY) -> KeyPair:
    chain, key = ROOT.pair(*names, ends=ends)
    return key_pair(chain, key, source=Path("a.pem"), key_source=Path("a.key"))


def put(directory: Path, name: str, *, ends: dt.timedelta = 90 * DAY) -> Path:
    chain, key = ROOT.pair(name, ends=ends)
    return issued.put(directory, name, chain_pem=chain, key_pem=key, meta={})


# The choice


def test_an_exact_name_goes_before_a_wildcard_and_the_operators_before_an_issued_one() -> None:
    exact, wild, theirs, theirs_wild = made("a.x.org"), made("*.x.org"), made("a.x.org"), made("*.x.org")
    ranked = [exact, wild, theirs, theirs_wild]
    for at, first in enumerate(ranked):
        table = Table(ranked[at:2], ranked[max(at, 2) :])
        assert table.find("a.x.org", now()) is first


@pytest.mark.parametrize(
    ("certified", "name", "fits"),
    [
        ("*.x.org", "a.x.org", True),
        ("*.x.org", "x.org", False),
        ("*.x.org", "a.b.x.org", False),
        ("a*.x.org", "ab.x.org", False),
        ("*", "org", False),
        ("*", "x.org", False),
        ("a.*.org", "a.x.org", False),
        ("*.*.org", "a.x.org", False),
        ("x.org", "a.x.org", False),
        ("x.org", "x.org", True),
        ("x.org", "", False),
        ("*.localhost", "a.localhost", True),
    ],
)
def test_a_wildcard_stands_for_one_whole_label_at_the_beginning(
    certified: str, name: str, fits: bool
) -> None:
    assert (Table([made(certified)]).find(name, now()) is not None) is fits


def test_one_that_is_over_is_chosen_only_where_there_is_no_other() -> None:
    over, wild = made("a.x.org", ends=DAY), made("*.x.org")
    later = now() + 2 * DAY
    assert Table([over]).find("a.x.org", later) is over
    assert Table([over], [wild]).find("a.x.org", now()) is over
    assert Table([over], [wild]).find("a.x.org", later) is wild


def test_of_two_of_one_rank_the_first_is_chosen() -> None:
    first, second = made("a.x.org"), made("a.x.org")
    assert Table([first, second]).find("a.x.org", now()) is first


# The files


def names(table: Table | None) -> list[str]:
    assert table is not None
    return sorted(name for pair in table.pairs for name in pair.names)


def test_nothing_is_told_where_nothing_changed(tmp_path: Path) -> None:
    files = CertificateFiles([ROOT.put(tmp_path, "a", ROOT.pair("a.org"))], tmp_path / "issued")
    put(tmp_path / "issued", "b.org")
    assert names(files.look(now())) == ["a.org", "b.org"]
    assert files.look(now()) is None
    assert files.look(now()) is None


def test_without_any_certificate_the_table_is_empty(tmp_path: Path) -> None:
    assert names(CertificateFiles([], tmp_path / "issued").look(now())) == []


def test_a_new_file_an_issued_one_and_one_that_went_are_seen(tmp_path: Path) -> None:
    operators = ROOT.put(tmp_path, "a", ROOT.pair("a.org"))
    files = CertificateFiles([operators], tmp_path / "issued")
    assert names(files.look(now())) == ["a.org"]
    ROOT.put(tmp_path, "a", ROOT.pair("a.org", "c.org"))
    assert names(files.look(now())) == ["a.org", "c.org"]
    entry = put(tmp_path / "issued", "*.b.org")
    assert names(files.look(now())) == ["*.b.org", "a.org", "c.org"]
    shutil.rmtree(entry)
    assert names(files.look(now())) == ["a.org", "c.org"]


def test_a_renewed_issued_certificate_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    put(tmp_path, "b.org")
    files = CertificateFiles([], tmp_path)
    first, second = files.look(now()), None
    put(tmp_path, "b.org")
    second = files.look(now())
    assert first is not None and second is not None
    assert len(second.pairs) == 1 and first.pairs[0].fingerprint != second.pairs[0].fingerprint


BROKEN: dict[str, Callable[[], tuple[str, str]]] = {
    "no-pem": lambda: ("no pem", ""),
    "mismatch": lambda: (ROOT.pair("a.org")[0], ROOT.pair("a.org")[1]),
    "over": lambda: ROOT.pair("a.org", begins=-2 * DAY, ends=-DAY),
    "not-begun": lambda: ROOT.pair("a.org", begins=DAY),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_new_file_that_is_not_good_is_told_once_and_the_old_one_is_kept(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = CertificateFiles([ROOT.put(tmp_path, "a", ROOT.pair("a.org"))], tmp_path / "issued")
    before = files.look(now())
    assert before is not None
    caplog.clear()
    ROOT.put(tmp_path, "a", BROKEN[case]())
    after = files.look(now())
    assert after is not None and after.pairs == before.pairs
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("certificate refused reason=") and "a.pem" in line or "a.key" in line
    assert f"the one until {before.pairs[0].ends:%Y-%m-%d}" in line
    caplog.clear()
    assert files.look(now()) is None
    assert not caplog.records
    ROOT.put(tmp_path, "a", ROOT.pair("a.org", "b.org"))
    assert names(files.look(now())) == ["a.org", "b.org"]


def test_a_file_that_was_refused_for_its_mode_is_taken_when_that_is_mended(tmp_path: Path) -> None:
    operators = ROOT.put(tmp_path, "a", ROOT.pair("a.org"))
    operators[1].chmod(0o644)
    files = CertificateFiles([operators], tmp_path / "issued")
    assert names(files.look(now())) == []
    operators[1].chmod(0o600)
    assert names(files.look(now())) == ["a.org"]


def test_one_that_is_over_is_better_than_none_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "b.org", ends=-DAY / 48)
    assert names(CertificateFiles([], tmp_path).look(now())) == ["b.org"]
    assert "certificate is not valid now" in caplog.text


def test_a_bad_entry_does_not_hide_the_others(tmp_path: Path) -> None:
    put(tmp_path, "b.org")
    (put(tmp_path, "c.org") / "key.pem").write_text("no key")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "b.org")
    assert names(CertificateFiles([], tmp_path).look(now())) == ["b.org"]


def test_an_operators_pair_that_cannot_be_served_is_an_error_of_the_settings(tmp_path: Path) -> None:
    good = ROOT.put(tmp_path, "a", ROOT.pair("a.org", begins=-2 * DAY, ends=-DAY))
    check([good])  # that it is over is told by the log: other names are served
    bad = ROOT.put(tmp_path, "b", BROKEN["mismatch"]())
    with pytest.raises(SettingsError, match=r"^tls_files: .*b\.key is not the key"):
        check([good, bad])
