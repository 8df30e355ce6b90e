"""``wellhead keys`` against a running server, each verb as a person types it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.cli.conftest import Type
from wellhead.cli.exit import ExitCode
from wellhead.cli.keys import end_of
from wellhead.client import Client
from wellhead.errors import InputError
from wellhead.model import access
from wellhead.model.access import Secret

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_key_for_one_tunnel_by_its_name(server: Client, typed: Type) -> None:
    tunnel = server.tunnels.create("for-a-key").tunnel
    text = typed("keys", "create", "build server", "--scope", "tunnel:for-a-key", "--expires", "30d")
    key = text.splitlines()[-2].removeprefix("API key  ")
    assert access.well_formed(Secret(key), access.API_KEY) and "shown this once" in text
    assert f"scopes   tunnel:{tunnel.id}" in text
    titles, *rows = typed("keys", "list").splitlines()
    assert titles.split() == ["ID", "STATUS", "KEY", "EXPIRES", "LABEL", "SCOPES"]
    assert f"…{key[-4:]}" in rows[-1] and "build server" in rows[-1] and key not in rows[-1]

    assert typed("tunnels", "list", "--api-key", key, "--quiet") == "for-a-key\n"
    assert "admin is needed" in typed("keys", "list", "--api-key", key, code=ExitCode.REFUSED)
    told = typed("keys", "revoke", "build server", "--yes")
    assert told == f'key "build server" (…{key[-4:]}) is revoked\n'
    assert "a valid API key" in typed("tunnels", "list", "--api-key", key, code=ExitCode.REFUSED)
    assert "no key" in typed("keys", "revoke", "build server", "--yes", code=ExitCode.NOT_FOUND)


def test_json_and_quiet(server: Client, typed: Type) -> None:
    made = json.loads(typed("keys", "create", "json", "--scope", "admin", "--json"))
    assert access.well_formed(Secret(made["api_key"]), access.API_KEY)
    assert made["record"]["scopes"] == ["admin"] and made["record"]["expires_at"] is None
    assert made["record"] in json.loads(typed("keys", "list", "--json"))
    revoked = json.loads(typed("keys", "revoke", made["record"]["id"].upper(), "--yes", "--json"))
    assert revoked["status"] == "revoked"
    assert made["record"]["id"] in typed("keys", "list", "--quiet").splitlines()
    key = typed("keys", "create", "quiet", "--scope", "admin", "--quiet").strip()
    assert access.well_formed(Secret(key), access.API_KEY)
    assert typed("keys", "revoke", "quiet", "--yes", "--quiet") == ""


def test_a_label_that_two_keys_have_is_not_enough(server: Client, typed: Type) -> None:
    for _ in range(2):
        server.keys.create("twins", scopes=["admin"])
    assert "2 keys have the label" in typed("keys", "revoke", "twins", "-y", code=ExitCode.USAGE)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["create", "x"], ExitCode.USAGE, "give --scope or --identity"),
        (["create", "x", "--scope", "root"], ExitCode.USAGE, "is not a scope"),
        (["create", "x", "--scope", "tunnel:nobody"], ExitCode.NOT_FOUND, 'no tunnel "nobody"'),
        (["create", "x", "--scope", "admin", "--expires", "soon"], ExitCode.USAGE, "neither a span"),
        (["create", "", "--scope", "admin"], ExitCode.USAGE, "label of 0 characters"),
        (["revoke", "nobody", "--yes"], ExitCode.NOT_FOUND, 'no key "nobody"'),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(
    server: Client, typed: Type, arguments: list[str], code: ExitCode, says: str
) -> None:
    first, *more = typed("keys", *arguments, code=code).splitlines()
    assert first.startswith("error: ") and says in first
    assert all(line.startswith("hint: ") for line in more)


def test_no_key_is_revoked_where_nobody_can_be_asked(server: Client, typed: Type) -> None:
    made = server.keys.create("kept", scopes=["admin"])
    assert "give --yes" in typed("keys", "revoke", "kept", code=ExitCode.USAGE)
    assert [key.status.value for key in server.keys.list() if key.id == made.record.id] == ["active"]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("30m", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 2, 1, 0, tzinfo=UTC)),
        ("1d", datetime(2026, 2, 1, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 2, 14, 12, tzinfo=UTC)),
        ("2030-01-31", datetime(2030, 1, 31, tzinfo=UTC)),
        ("2030-01-31T12:00:00+02:00", datetime(2030, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_span_a_date_or_a_time(text: str, end: datetime) -> None:
    assert end_of(text, NOW) == end


@pytest.mark.parametrize("text", ["", "d", "1y", "-1d", "1.5d", "123456d", "2030-13-01", "tomorrow"])
def test_what_is_no_time_is_no_end(text: str) -> None:
    with pytest.raises(InputError, match="neither a span"):
        end_of(text, NOW)
