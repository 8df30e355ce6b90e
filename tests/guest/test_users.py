"""Users, from tables that a sandbox may have written itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wellhead.guest.refusal import Refusal, Word
from wellhead.guest.terms import GuestTerms
from wellhead.guest.users import find_user, names

TERMS = GuestTerms(user="wrenn-user", home="/home/wrenn-user")

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
wrenn-user:x:1000:1000::/somewhere:/bin/zsh
bare:x:7:8:::
broken:x:nine:1::/:/bin/sh
short:x:1
huge:x:99999999999:1::/:/bin/sh
"""
GROUP = """\
root:x:0:
sudo:x:27:bare,wrenn-user
users:x:100:wrenn-user,
other:x:101:someone
wrenn:x:1000:wrenn-user
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return tmp_path


def test_a_user_has_its_own_group_and_all_that_list_it(etc: Path) -> None:
    user = find_user("wrenn-user", TERMS, etc)
    assert (user.uid, user.gid, user.groups) == (1000, 1000, (1000, 27, 100))
    assert (user.home, user.shell) == ("/home/wrenn-user", "/bin/zsh")


def test_without_a_name_it_is_the_sandboxs_own(etc: Path) -> None:
    assert find_user(None, TERMS, etc) == find_user("wrenn-user", TERMS, etc)


def test_what_a_line_leaves_out_has_a_default(etc: Path) -> None:
    user = find_user("bare", TERMS, etc)
    assert (user.home, user.shell, user.groups) == ("/", "/bin/sh", (8, 27))


@pytest.mark.parametrize("name", ["nobody-here", "broken", "short", "huge", "", "ROOT", "1000"])
def test_nobody_is_not_found(etc: Path, name: str) -> None:
    with pytest.raises(Refusal) as refused:
        find_user(name, TERMS, etc)
    assert refused.value.word is Word.NOT_FOUND


def test_root_is_there_without_any_table(tmp_path: Path) -> None:
    assert find_user("root", TERMS, tmp_path).uid == 0


def test_what_is_no_plain_file_is_no_table_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "passwd")
    (tmp_path / "group").mkdir()
    assert find_user("root", TERMS, tmp_path).uid == 0
    assert names(tmp_path) == ({}, {})


def test_numbers_have_names_and_the_first_line_counts(etc: Path) -> None:
    with (etc / "passwd").open("a") as file:
        file.write("again:x:1000:1::/:/bin/sh\n")
    users, groups = names(etc)
    assert users == {0: "root", 1000: "wrenn-user", 7: "bare"}
    assert groups[27] == "sudo"
