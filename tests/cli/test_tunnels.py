"""``wellhead tunnels`` against a running server, each verb as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.kit.programs import Edge
from wellhead.agent.state import Kept, TunnelState
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run
from wellhead.client import Client
from wellhead.errors import Conflict
from wellhead.model import access
from wellhead.model.access import Secret


def secret_in(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("connect secret")]
    secret = line.split()[-1]
    assert access.well_formed(Secret(secret), access.CONNECT_SECRET)
    return secret


def test_a_tunnels_life_by_name(server: Client, typed: Type) -> None:
    text = typed("tunnels", "create", "life-line", "--description", "a text", "--metadata", '{"a": 1}')
    assert "status       active" in text and "shown this once" in text
    assert secret_in(text)
    assert 'metadata     {"a": 1}' in typed("tunnels", "get", "life-line")
    text = typed("tunnels", "update", "life-line", "--description", "", "--metadata", "{}")
    assert "description" not in text and "metadata" not in text
    text = typed("tunnels", "delete", "life-line", "--yes")
    assert "life-line gets no more traffic" in text and "wellhead tunnels restore life-line" in text
    assert "pending removal" in typed("tunnels", "list")
    assert typed("tunnels", "restore", "life-line") == "life-line is active again\n"


def test_a_deleted_tunnel_is_ended_for_good(server: Client, typed: Type) -> None:
    server.tunnels.create("for-good")
    told = typed("tunnels", "force-delete", "for-good", "-y", code=ExitCode.CONFLICT)
    assert told.endswith("cannot become deleted\nhint: delete it first: wellhead tunnels delete for-good\n")
    typed("tunnels", "delete", "for-good", "-y")
    assert typed("tunnels", "force-delete", "for-good", "-y") == "for-good is gone; its name is free\n"
    assert "no tunnel" in typed("tunnels", "get", "for-good", code=ExitCode.NOT_FOUND)


def test_a_rotated_secret_is_shown_once_and_kept_where_the_old_one_was(
    edge: Edge, server: Client, typed: Type
) -> None:
    made = server.tunnels.create("rotated")
    assert secret_in(text := typed("tunnels", "rotate-secret", "rotated", "-y")) and "kept" not in text
    state = TunnelState(edge.home, "rotated")
    state.save(server.url, Kept(made.tunnel.id, made.connect_secret))
    text = typed("tunnels", "rotate-secret", "rotated", "--hard", "-y")
    assert f"kept in {state.path}" in text
    assert state.load(server.url) == Kept(made.tunnel.id, Secret(secret_in(text)))
    assert json.loads(typed("tunnels", "rotate-secret", "rotated", "-y", "--json")).keys() == {
        "connect_secret"
    }
    secret = Secret(typed("tunnels", "rotate-secret", "rotated", "-y", "-q").strip())
    assert state.load(server.url) == Kept(made.tunnel.id, secret)


def test_a_rotated_secret_is_shown_even_if_it_cannot_be_kept(
    edge: Edge, server: Client, typed: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    made = server.tunnels.create("damaged")
    state = TunnelState(edge.home, "damaged")
    state.save(server.url, Kept(made.tunnel.id, made.connect_secret))
    state.path.write_text("{")
    assert run(["tunnels", "rotate-secret", "damaged", "-y"]) == ExitCode.SETTINGS
    told = capsys.readouterr()
    assert secret_in(told.out) and "is damaged" in told.err


def test_a_repeated_create_of_a_script_finds_its_tunnel(server: Client, typed: Type) -> None:
    ids = {
        json.loads(typed("tunnels", "create", "scripted", "--idempotency-key", "k", "--json"))["tunnel"]["id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    assert "is taken" in typed("tunnels", "create", "scripted", code=ExitCode.CONFLICT)


def test_a_list_is_filtered(server: Client, typed: Type) -> None:
    server.tunnels.create("here")
    server.tunnels.delete(server.tunnels.create("leaving").tunnel.id)
    assert typed("tunnels", "list", "--status", "pending-removal", "-q").splitlines() == ["leaving"]
    assert "here" in typed("tunnels", "list", "--status", "active", "--not-connected", "-q").splitlines()
    assert typed("tunnels", "list", "--connected") == "no tunnels\n"
    server.tunnels.restore(next(t.id for t in server.tunnels.list() if t.tunnel_name == "leaving"))


def test_an_id_will_do_where_a_name_does(server: Client, typed: Type) -> None:
    tunnel = server.tunnels.create("by-its-id").tunnel
    assert tunnel.id in typed("tunnels", "get", tunnel.id.upper())
    assert typed("tunnels", "get", "by-its-id", "-q") == f"{tunnel.id}\n"


def test_what_looks_like_an_id_is_one(server: Client, typed: Type) -> None:
    nobody = "01234567-89ab-cdef-0123-456789abcdef"
    with pytest.raises(Conflict, match="is reserved"):
        server.tunnels.create(nobody)
    tunnel = server.tunnels.create("known-by-id").tunnel
    assert typed("tunnels", "get", tunnel.id.upper(), "-q") == f"{tunnel.id}\n"
    assert "no such tunnel" in typed("tunnels", "get", nobody, code=ExitCode.NOT_FOUND)


def test_json_is_what_the_api_gives(server: Client, typed: Type) -> None:
    made = json.loads(typed("tunnels", "create", "for-jq", "--json"))
    assert access.well_formed(Secret(made["connect_secret"]), access.CONNECT_SECRET)
    tunnel = json.loads(typed("tunnels", "get", "for-jq", "--json"))
    assert tunnel == made["tunnel"] and tunnel["tls_mode"] == "edge"
    assert tunnel in json.loads(typed("tunnels", "list", "--json"))
    changed = json.loads(typed("tunnels", "update", "for-jq", "--description", "x", "--json"))
    assert changed["description"] == "x"
    assert json.loads(typed("tunnels", "delete", "for-jq", "-y", "--json"))["status"] == "delete_pending"
    assert json.loads(typed("tunnels", "restore", "for-jq", "--json"))["status"] == "active"


def test_quiet_says_what_a_script_needs(server: Client, typed: Type) -> None:
    secret = typed("tunnels", "create", "for-sh", "--quiet").strip()
    assert access.well_formed(Secret(secret), access.CONNECT_SECRET)
    assert "for-sh" in typed("tunnels", "list", "--quiet").splitlines()
    assert typed("tunnels", "update", "for-sh", "--description", "x", "--quiet") == ""
    assert typed("tunnels", "delete", "for-sh", "--yes", "--quiet") == ""


def test_the_list_is_a_table(server: Client, typed: Type) -> None:
    server.tunnels.create("in-a-table")
    titles, *rows = typed("tunnels", "list").splitlines()
    assert titles.split() == ["NAME", "STATUS", "CONNECTED", "URL"]
    (row,) = [row for row in rows if row.startswith("in-a-table ")]
    assert row.index("active") == titles.index("STATUS") and "no" in row.split()
    assert "https://in-a-table.localhost:" in row


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get", "nobody"], ExitCode.NOT_FOUND, 'no tunnel "nobody" at https://localhost:'),
        (["get", "\x1b[2Jx"], ExitCode.NOT_FOUND, r'no tunnel "\x1b[2Jx"'),
        (["delete", "nobody", "-y"], ExitCode.NOT_FOUND, 'no tunnel "nobody"'),
        (["create", "Big"], ExitCode.USAGE, "only a-z, 0-9 and - are allowed"),
        (["create", "admin"], ExitCode.CONFLICT, "reserved"),
        (["create", "abc", "--metadata", "x"], ExitCode.USAGE, "is not a JSON object"),
        (["create", "abc", "--metadata", "[" * 100_000], ExitCode.USAGE, "is not a JSON object"),
        (["update", "abc"], ExitCode.USAGE, "nothing to change"),
        (["create"], ExitCode.USAGE, "missing argument"),
        (["lst"], ExitCode.USAGE, "no such command 'lst'. Did you mean 'list'"),
        (["list", "--api-key", "wh_wrong"], ExitCode.REFUSED, "a valid API key is needed"),
        (["list", "--url", "https://localhost:1", "--api-key", "k"], ExitCode.UNREACHABLE, "refused"),
        (["list", "--url", "ftp://x", "--api-key", "k"], ExitCode.USAGE, "is not a server's URL"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_one_line_and_a_code(
    server: Client, typed: Type, arguments: list[str], code: ExitCode, says: str
) -> None:
    first, *more = typed("tunnels", *arguments, code=code).splitlines()
    assert first.startswith("error: ") and says in first
    assert all(line.startswith("hint: ") for line in more)


def test_no_verb_shows_a_help_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tunnels"]) == ExitCode.USAGE
    assert "Usage: wellhead tunnels" in capsys.readouterr().out


def test_nothing_is_removed_where_nobody_can_be_asked(server: Client, typed: Type) -> None:
    tunnel = server.tunnels.create("still-here").tunnel
    text = typed("tunnels", "delete", "still-here", code=ExitCode.USAGE)
    assert "Stop all traffic of tunnel still-here?" in text and "--yes" in text
    assert server.tunnels.get(tunnel.id) == tunnel


def test_a_server_is_given_by_options(
    edge: Edge, typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path))
    options = ["--url", f"https://localhost:{edge.https}", "--ca-file", str(edge.ca), "--api-key", edge.key]
    made = typed("tunnels", "create", "from-afar", *options)
    assert "from-afar" in typed("tunnels", "list", *options, "--quiet").splitlines() and secret_in(made)
    assert not list(tmp_path.iterdir()), "nothing is kept of a server that was given by options"


@pytest.mark.parametrize("verb", [["tunnels", "list"], ["keys", "list"], ["login"]])
def test_a_key_is_in_no_message_and_no_traceback(
    server: Client, typed: Type, verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = access.mint(access.API_KEY).reveal()
    monkeypatch.setenv("WELLHEAD_DEBUG", "1")
    for more, code in (([], ExitCode.REFUSED), (["--ca-file", "/nowhere.pem"], ExitCode.SETTINGS)):
        text = typed(*verb, "--api-key", key, *more, code=code)
        assert "Traceback" in text and key not in text and key[3:20] not in text
