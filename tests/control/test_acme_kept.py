from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from wellhead import private
from wellhead.control.acme_kept import KEPT, Kept, KeptOrders

NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
ORDER = Kept("https://acme.example/order/1", "https://acme.example/dir", ("a.example.org",), NOON)


def test_an_order_is_kept_for_a_day(tmp_path: Path) -> None:
    KeptOrders(tmp_path).put("digest", ORDER)
    kept = KeptOrders(tmp_path)
    assert kept.get("digest", NOON + KEPT - dt.timedelta(seconds=1)) == ORDER
    assert kept.get("digest", NOON + KEPT) is None
    assert kept.get("another", NOON) is None
    kept.forget("digest")
    kept.forget("digest")
    assert kept.get("digest", NOON) is None


def test_files_of_old_orders_are_cleared_away_with_the_next_one(tmp_path: Path) -> None:
    kept = KeptOrders(tmp_path)
    kept.put("old", ORDER)
    os.utime(tmp_path / "old.json", times=((NOON - 2 * KEPT).timestamp(),) * 2)
    kept.put("new", ORDER)
    assert [file.name for file in tmp_path.iterdir()] == ["new.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "no JSON"])
def test_a_file_that_is_none_is_no_order(tmp_path: Path, text: str) -> None:
    private.write(tmp_path / "digest.json", text)
    assert KeptOrders(tmp_path).get("digest", NOON) is None
