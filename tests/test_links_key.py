from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.links_key import FILE, load_or_make
from wellhead.model.links import KEY_BYTES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return private.make_directory(tmp_path / "server")


def test_the_key_is_made_once_and_for_its_owner_alone(directory: Path) -> None:
    key = load_or_make(directory)
    assert len(key) == KEY_BYTES and load_or_make(directory) == key
    assert stat.S_IMODE((directory / FILE).lstat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == [FILE]


def test_all_who_ask_at_once_have_the_same_key(directory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_or_make, [directory] * 32))
    assert len(keys) == 1


def test_whoever_comes_second_takes_the_key_that_is_there(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_or_make(directory)
    texts = iter([None, private.read(directory / FILE)])  # it was not there when it was looked for
    monkeypatch.setattr(private, "read", lambda path: next(texts))
    assert load_or_make(directory) == first


@pytest.mark.parametrize("text", ["", "00" * (KEY_BYTES - 1), "zz" * KEY_BYTES, "00" * KEY_BYTES + "\n\n"])
def test_a_damaged_key_is_refused_and_not_shown(directory: Path, text: str) -> None:
    private.write(directory / FILE, text)
    with pytest.raises(LocalStateError, match="64 hex digits") as caught:
        load_or_make(directory)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_key_that_others_may_read_is_refused(directory: Path) -> None:
    load_or_make(directory)
    (directory / FILE).chmod(0o640)
    with pytest.raises(LocalStateError, match="mode 640"):
        load_or_make(directory)
