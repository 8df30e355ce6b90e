"""``wellhead identities`` against a running server, each verb as a person types it."""

from __future__ import annotations

import json

from tests.cli.conftest import Type
from wellhead.cli.exit import ExitCode
from wellhead.client import Client


def test_an_identitys_life(server: Client, typed: Type) -> None:
    told = typed("identities", "create", "my-agent", "--display-name", "Team agent", "--description", "text")
    assert "handle        my-agent" in told and "display name  Team agent" in told
    assert "https://my-agent.localhost" in told
    titles, row = typed("identities", "list").splitlines()
    assert titles.split() == ["HANDLE", "TUNNEL", "CONNECTED", "NAME", "CREATED"]
    assert row.split()[:5] == ["my-agent", "active", "no", "Team", "agent"]
    found = json.loads(typed("identities", "get", "@my-agent", "--json"))
    assert found["tunnel"]["agent_identity_id"] == found["id"]
    assert typed("identities", "get", "my-agent", "--quiet").strip() == found["id"]

    key = typed("keys", "create", "the agent", "--identity", "my-agent", "--quiet").strip()
    server.tunnels.create("another")
    assert typed("identities", "list", "--api-key", key, "--quiet") == "my-agent\n"
    assert "taken" in typed("identities", "create", "another", code=ExitCode.CONFLICT)

    told = typed("identities", "delete", "my-agent", "--yes")
    assert told == "my-agent is gone, with its tunnel and its keys\n"
    assert "a valid API key" in typed("identities", "list", "--api-key", key, code=ExitCode.REFUSED)
    assert 'no identity "my-agent" at ' in typed(
        "identities", "delete", "my-agent", "-y", code=ExitCode.NOT_FOUND
    )


def test_a_key_is_for_scopes_or_for_an_identity(server: Client, typed: Type) -> None:
    for more in ([], ["--scope", "admin", "--identity", "my-agent"]):
        assert "--scope or --identity" in typed("keys", "create", "x", *more, code=ExitCode.USAGE)


def test_an_identity_that_is_not_there_is_named(server: Client, typed: Type) -> None:
    for command in (["identities", "get", "nobody"], ["keys", "create", "x", "--identity", "nobody"]):
        assert f'no identity "nobody" at {server.url}' in typed(*command, code=ExitCode.NOT_FOUND)
