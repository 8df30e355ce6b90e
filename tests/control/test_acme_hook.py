"""What becomes of a program that writes DNS records."""

from __future__ import annotations

from pathlib import Path

import pytest

from wellhead.control.acme_hook import SAID_MAX, Hook
from wellhead.errors import IssuerError


def program(directory: Path, script: str) -> Path:
    path = directory / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


async def test_it_is_told_what_to_do_as_arguments_that_no_shell_reads(tmp_path: Path) -> None:
    hook = Hook(program(tmp_path, f'printf "%s|" "$#" "$@" >> {tmp_path}/log'), 10)
    await hook.add("_acme-challenge.a.example.org", "$(id) value")
    await hook.remove("_acme-challenge.a.example.org", "x")
    said = "3|add|_acme-challenge.a.example.org|$(id) value|3|remove|_acme-challenge.a.example.org|x|"
    assert (tmp_path / "log").read_text() == said


async def test_its_exit_code_and_last_words_are_told(tmp_path: Path) -> None:
    hook = Hook(
        program(tmp_path, f"head -c {20 * SAID_MAX} /dev/zero >&2; echo 'no such zone' >&2; exit 3"), 10
    )
    with pytest.raises(IssuerError, match=r"add a: exit code 3: .*no such zone") as told:
        await hook.add("a", "x")
    assert told.value.reason == "dns" and len(str(told.value)) < 6 * SAID_MAX


async def test_it_is_killed_with_what_it_began_when_its_time_is_over(tmp_path: Path) -> None:
    hook = Hook(program(tmp_path, "sleep 600 & sleep 600"), 0.2)
    with pytest.raises(IssuerError, match=r"not done within 0\.2 s, killed") as told:
        await hook.add("a", "x")
    assert told.value.reason == "dns-wait"


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IssuerError, match=r"nowhere add a: no such file"):
        await Hook(tmp_path / "nowhere", 1).add("a", "x")


async def test_it_does_not_see_our_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLHEAD_API_KEY", "wh_secret")
    await Hook(program(tmp_path, f"env > {tmp_path}/log"), 10).add("a", "x")
    assert "WELLHEAD_API_KEY" not in (tmp_path / "log").read_text()
