"""``wellhead sandbox ports``, ``url`` and ``share``; and who may see ports, by ``create`` and ``update``."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.conftest import Type
from tests.kit.sandbox_server import SandboxServer
from wellhead.cli.exit import ExitCode
from wellhead.client import Client
from wellhead.client.sandboxes import Sandbox
from wellhead.model.visibility import Visibility


def test_what_listens_is_listed_with_its_process_and_its_url(sandbox: Sandbox, typed: Type) -> None:
    titles, row = typed("sandbox", "ports", sandbox.id).splitlines()
    assert titles.split() == ["PORT", "ADDRESS", "PROCESS", "PID", "VISIBILITY", "URL"]
    url = f"https://8000-{sandbox.id}.localhost:8443"
    assert re.split("  +", row) == ["8000", "127.0.0.1", "python3 -m http.server", "12", "private", url]
    assert typed("sandbox", "ports", sandbox.id, "-q") == "8000\n"
    (told,) = json.loads(typed("sandbox", "ports", sandbox.id, "--json"))
    assert told == {
        "port": 8000,
        "address": "127.0.0.1",
        "pid": 12,
        "command": "python3",
        "argv": ["python3", "-m", "http.server"],
        "user": "wrenn-user",
        "visibility": "private",
        "url": url,
    }


def test_a_sandbox_in_which_nothing_listens(sandbox: Sandbox, sandboxes: SandboxServer, typed: Type) -> None:
    sandboxes.sandboxes[sandbox.id].ports.clear()
    assert typed("sandbox", "ports", sandbox.id) == "nothing listens\n"
    assert typed("sandbox", "ports", sandbox.id, "--json") == "[]\n"
    assert typed("sandbox", "ports", sandbox.id, "-q") == ""


def test_a_sandbox_that_does_not_run_has_no_ports(sandbox: Sandbox, typed: Type) -> None:
    sandbox.pause()
    told = typed("sandbox", "ports", sandbox.id, code=ExitCode.CONFLICT)
    assert told.startswith(
        "error: the sandbox is paused\nhint: one that is paused goes on with `wellhead sand"
    )


def test_a_url_is_printed_alone(sandbox: Sandbox, typed: Type, notes: Type) -> None:
    sandbox.set_visibility("public", 8000)
    assert typed("sandbox", "url", sandbox.id, "8000") == f"{sandbox.url(8000)}\n"
    assert typed("sandbox", "url", sandbox.id, "8000", "--plain").startswith("http://8000-cl-")
    assert notes("sandbox", "url", sandbox.id, "8000") == ""


def test_what_keeps_visitors_from_a_url_is_told(sandbox: Sandbox, typed: Type, notes: Type) -> None:
    id = sandbox.id
    assert notes("sandbox", "url", id, "3000").splitlines() == [
        f"note: nothing listens on port 3000 of {id}",
        f"note: port 3000 is private: `wellhead sandbox share {id} 3000` makes a link",
    ]
    assert notes("sandbox", "url", id, "3000", "--quiet") == ""
    sandbox.set_visibility("team", 8000)
    assert notes("sandbox", "url", id, "8000").startswith("note: port 8000 is for the organization's keys")
    sandbox.set_visibility("public")
    sandbox.pause()
    assert notes("sandbox", "url", id, "8000") == f"note: {id} is paused: nobody is answered\n"
    sandbox.update(auto_resume=True)
    assert notes("sandbox", "url", id, "8000") == f"note: {id} is paused: a request resumes it\n"
    assert json.loads(typed("sandbox", "url", id, "8000", "--json")) == {
        "url": sandbox.url(8000),
        "port": 8000,
        "visibility": "public",
        "listens": None,
    }


def test_a_url_is_printed_though_the_host_is_away(
    sandbox: Sandbox, sandboxes: SandboxServer, typed: Type, notes: Type
) -> None:
    sandbox.set_visibility("public")
    sandboxes.sandboxes[sandbox.id].is_host_away = True
    assert typed("sandbox", "url", sandbox.id, "8000") == f"{sandbox.url(8000)}\n"
    told = notes("sandbox", "url", sandbox.id, "8000")
    assert told == f"note: the host of {sandbox.id} does not answer: nobody else is answered either\n"


def test_a_link_is_printed_with_its_end(sandbox: Sandbox, typed: Type, notes: Type) -> None:
    url, end = typed("sandbox", "share", sandbox.id, "3000", "--expires", "90s").splitlines()
    assert url == f"{sandbox.url(3000)}/?wellhead_link=EXAMPLE0"
    assert end == "until 2026-01-31 12:01:30 UTC whoever has it sees the port"
    assert typed("sandbox", "share", sandbox.id, "3000", "-q") == f"{url}\n"
    assert json.loads(typed("sandbox", "share", sandbox.id, "3000", "--json"))["port"] == 3000
    every = typed("sandbox", "share", sandbox.id)
    assert "https://{port}-cl-" in every and "every port: its number stands in place of {port}" in every
    assert typed("sandbox", "share", sandbox.id, "--revoke") == f"every link to {sandbox.id} is void\n"
    assert typed("sandbox", "share", sandbox.id, "3000", "-q").endswith("EXAMPLE1\n")
    sandbox.set_visibility("public", 3000)
    assert notes("sandbox", "share", sandbox.id, "3000").endswith("everybody sees it without a link\n")
    assert notes("sandbox", "share", sandbox.id) == ""  # of every other port the link says something
    sandbox.set_visibility("public")
    assert notes("sandbox", "share", sandbox.id).endswith("everybody sees them without a link\n")


def test_who_may_see_ports_is_changed_and_told(sandbox: Sandbox, typed: Type) -> None:
    id = sandbox.id
    assert typed("sandbox", "share", id, "3000", "--public").splitlines() == [
        f"port 3000 of {id}: public (before: private)",
        "whoever knows the name sees it",
    ]
    assert ": public (as before)\n" in typed("sandbox", "share", id, "3000", "--public")
    assert "ports        private, but 3000 public\n" in typed("sandbox", "info", id)
    told = typed("sandbox", "share", id, "--team")
    assert told.startswith(f"every port of {id}: team (before: private, but 3000 public)\n")
    assert told.endswith("whoever has a key of the organization, or a link, sees them\n")
    info = json.loads(typed("sandbox", "info", id, "--json"))
    assert (info["visibility"], info["port_visibility"]) == ("team", {})


def test_ports_are_seen_as_a_create_and_an_update_say(client: Client, typed: Type) -> None:
    made = typed("sandbox", "create", "--visibility", "team", "--auto-resume")
    (id,) = re.findall(r"^id +(cl-\S+)$", made, re.M)
    assert re.search(r"^ports +team$", made, re.M)
    assert re.search(rf"^reached at +https://{{port}}-{id}\.localhost:8443$", made, re.M)
    assert re.search(r"^resumes +when it is asked to, or one of its ports is$", made, re.M)
    told = typed("sandbox", "update", id, "--visibility", "public", "--no-auto-resume", "--timeout", "90")
    assert re.search(r"^ports +public$", told, re.M) and "resumes " not in told
    assert re.search(r"^pauses after +90 s without activity$", told, re.M)
    assert '{"a": "b"}' in typed("sandbox", "update", id, "--label", "a=b")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["url", "{id}", "0"], 'port "0" is not a number from 1 to 65535'),
        (["url", "{id}", "65536"], 'port "65536" is not a number from 1 to 65535'),
        (["url", "{id}", "http"], 'port "http" is not a number'),
        (["url", "{id}"], "missing argument 'PORT'"),
        (["url", "cl-x", "80"], '"cl-x" is not the id of a sandbox'),
        (["share", "{id}", "80", "--expires", "soon"], '--expires "soon" is not a span above 0 such as 90s'),
        (["share", "{id}", "80", "--expires", "9999d"], "expires_in must be 1 to 2592000, not 863913600"),
        (["share", "{id}", "--public", "--private"], "--public and --private: only one of them can be"),
        (["share", "{id}", "--revoke", "--team"], "--revoke and --team: one after the other"),
        (["share", "{id}", "80", "--revoke"], "--revoke voids the links of every port: leave 80 out"),
        (["share", "{id}", "--public", "--expires", "1h"], "--expires is for a link, and this makes none"),
        (["update", "{id}"], "nothing is to be changed: give --timeout"),
        (["update", "{id}", "--visibility", "open"], "'open' is not one of 'private', 'team', 'public'"),
    ],
)
def test_mistakes_are_told(sandbox: Sandbox, typed: Type, arguments: list[str], told: str) -> None:
    words = [word.replace("{id}", sandbox.id) for word in arguments]
    assert told in typed("sandbox", *words, code=ExitCode.USAGE)
    assert sandbox.refresh().visibility is Visibility.PRIVATE
