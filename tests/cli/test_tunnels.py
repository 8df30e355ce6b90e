"""``wellhead tunnels`` against a running server, each verb as a person types it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run
from wellhead.client import Client
from wellhead.model import access
from wellhead.model.access import Secret


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as edge:
        yield edge


@pytest.fixture
def server(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The same server by another way; the commands find it by the profile that it left."""
    monkeypatch.setenv("WELLHEAD_HOME", str(edge.home))
    with Client(f"https://localhost:{edge.https}", Secret(edge.key), ca_file=edge.ca) as client:
        yield client


Type = Callable[..., str]


@pytest.fixture
def typed(server: Client, capsys: pytest.CaptureFixture[str]) -> Type:
    """Run a command line; gives its stdout and holds the exit code to ``code``."""

    def typed(*arguments: str, code: int = ExitCode.OK) -> str:
        capsys.readouterr()
        ended = run(list(arguments))
        told = capsys.readouterr()
        assert ended == code, told.err
        return told.out if code == ExitCode.OK else told.err

    return typed


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


def test_an_id_will_do_where_a_name_does(server: Client, typed: Type) -> None:
    tunnel = server.tunnels.create("by-its-id").tunnel
    assert tunnel.id in typed("tunnels", "get", tunnel.id.upper())
    assert typed("tunnels", "get", "by-its-id", "-q") == f"{tunnel.id}\n"


def test_a_name_may_look_like_an_id(server: Client, typed: Type) -> None:
    name = "01234567-89ab-cdef-0123-456789abcdef"
    tunnel = server.tunnels.create(name).tunnel
    assert typed("tunnels", "get", name, "-q") == f"{tunnel.id}\n"


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
        (["get", "nobody"], ExitCode.FAILED, 'no tunnel "nobody" at https://localhost:'),
        (["get", "\x1b[2Jx"], ExitCode.FAILED, r'no tunnel "\x1b[2Jx"'),
        (["delete", "nobody", "-y"], ExitCode.FAILED, 'no tunnel "nobody"'),
        (["create", "Big"], ExitCode.FAILED, "only a-z, 0-9 and - are allowed"),
        (["create", "admin"], ExitCode.FAILED, "reserved"),
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
    typed: Type, arguments: list[str], code: ExitCode, says: str
) -> None:
    first, *more = typed("tunnels", *arguments, code=code).splitlines()
    assert first.startswith("error: ") and says in first
    assert all(line.startswith("hint: ") for line in more)


def test_no_verb_shows_a_help_and_is_an_error(typed: Type, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tunnels"]) == ExitCode.USAGE
    assert "Usage: wellhead tunnels" in capsys.readouterr().out


def test_nothing_is_removed_where_nobody_can_be_asked(server: Client, typed: Type) -> None:
    tunnel = server.tunnels.create("still-here").tunnel
    text = typed("tunnels", "delete", "still-here", code=ExitCode.USAGE)
    assert "Stop all traffic of tunnel still-here?" in text and "--yes" in text
    assert server.tunnels.get(tunnel.id) == tunnel


def test_a_server_of_ones_own_is_given_by_options(edge: Edge, typed: Type, tmp_path: Path) -> None:
    options = ["--url", f"https://localhost:{edge.https}", "--ca-file", str(edge.ca), "--api-key", edge.key]
    assert typed("tunnels", "list", *options, "--quiet") == typed("tunnels", "list", "--quiet")
