from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from wellhead import settings as module
from wellhead.errors import SettingsError
from wellhead.settings import CLIENT_VARIABLES, ServerSettings
from wellhead.settings.page import reference_page

REPOSITORY = Path(__file__).parents[1]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wellhead.toml"
    path.write_text(text)
    return path


def problems(config: Path | None = None, overrides: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        ServerSettings.load(config, overrides)
    return str(caught.value).split("\n")


def test_without_anything_it_is_the_development_server_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path))
    settings = ServerSettings.load()
    assert settings.data_dir == tmp_path / "server"
    assert (settings.domain, settings.agent_zone) == ("localhost", "localhost")
    assert (settings.https, settings.http) == ("127.0.0.1:8443", "127.0.0.1:8080")


def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = write(tmp_path, "head_seconds = 1\nidle_seconds = 1\ndrain_seconds = 1\n")
    monkeypatch.setenv("WELLHEAD_HEAD_SECONDS", "2")
    monkeypatch.setenv("WELLHEAD_IDLE_SECONDS", "2")
    settings = ServerSettings.load(config, {"head_seconds": 3, "drain_seconds": None})
    assert (settings.head_seconds, settings.idle_seconds, settings.drain_seconds) == (3, 2, 1)
    assert settings.reply_seconds == 120


def test_the_file_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WELLHEAD_CONFIG", str(write(tmp_path, 'domain = "example.org"')))
    assert ServerSettings.load().domain == "example.org"
    assert ServerSettings.load(write(tmp_path, 'domain = "other.org"')).domain == "other.org"


@pytest.mark.parametrize("off", ["http = false", 'http = "off"', 'http = "OFF"'])
def test_the_plain_port_can_be_off(tmp_path: Path, off: str) -> None:
    assert ServerSettings.load(write(tmp_path, off)).http is None


@pytest.mark.parametrize(
    ("zone", "name", "reserved"),
    [
        ("agents.example.org", "agents", True),
        ("eu.agents.example.org", "agents", True),
        ("eu.agents.example.org", "eu1", False),
        ("example.org", "example", False),
        ("example.org", "org", False),
        ("agents.example.com", "agents", False),
        (None, "agents", False),
    ],
)
def test_no_tunnel_stands_where_agents_dial(zone: str | None, name: str, reserved: bool) -> None:
    assert ServerSettings(domain="example.org", zone=zone).is_reserved(name) is reserved


def test_reserved_names_are_a_list_in_the_file_and_comma_separated_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = write(tmp_path, 'reserved_names = ["one", "two"]')
    assert ServerSettings.load(config).reserved_names == ("one", "two")
    monkeypatch.setenv("WELLHEAD_RESERVED_NAMES", "three, four")
    settings = ServerSettings.load(config)
    assert settings.reserved_names == ("three", "four")
    assert settings.is_reserved("three") and settings.is_reserved("api") and not settings.is_reserved("one")


def test_a_problem_says_which_key_from_where_which_value_and_which_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = write(tmp_path, "max_head_bytes = -5\n")
    monkeypatch.setenv("WELLHEAD_LOG_LEVEL", "loud")
    assert problems(config, {"head_seconds": "soon"}) == [
        "log_level (from WELLHEAD_LOG_LEVEL): \"loud\" must be 'debug', 'info', 'warning' or 'error'",
        f'max_head_bytes (from {config}): "-5" must be greater than 0',
        'head_seconds (from the command line): "soon" must be a valid number,'
        " unable to parse string as a number",
    ]


def test_unknown_keys_are_refused_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = write(tmp_path, "hed_seconds = 1\n[edge]\nx = 1\n")
    monkeypatch.setenv("WELLHEAD_DOMIAN", "x")
    assert problems(config, {"zzzzzz": 1}) == [
        'unknown variable "WELLHEAD_DOMIAN" in the environment, did you mean WELLHEAD_DOMAIN?',
        'unknown key "zzzzzz" in the command line',
        f'unknown key "hed_seconds" in {config}, did you mean head_seconds?',
        f'unknown key "edge" in {config}',
    ]


def test_an_unknown_variable_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLHEAD_APIKEY", "wh_canary")
    (problem,) = problems()
    assert "did you mean WELLHEAD_API_KEY?" in problem
    assert "canary" not in problem


@pytest.mark.parametrize("name", CLIENT_VARIABLES)
def test_variables_of_agents_and_commands_are_no_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(write(tmp_path, "")))
    ServerSettings.load()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("https", "localhost", "no port"),
        ("https", ":8443", "expected HOST:PORT"),
        ("https", "8443", "has no host, expected HOST:PORT"),
        ("https", "127.0.0.1:65536", "0 to 65535"),
        ("https", "::1:8443", "[IPv6]:PORT"),
        ("http", "on", "no port"),
        ("domain", "", "is not an address"),
        ("domain", "-x.org", "not a hostname"),
        ("domain", "127.0.0.1", "names cannot stand under it"),
        ("domain", "[::1]", "names cannot stand under it"),
        ("domain", "example.org:8443", "has a port"),
        ("domain", ".".join(["x" * 60] * 4), "at most 189"),
        ("zone", "a b", "not a hostname"),
        ("zone", "1:2:3", "is not an IPv6 address"),
        ("head_seconds", 0, "greater than 0"),
        ("head_seconds", float("inf"), "finite"),
        ("drain_seconds", -1, "greater than or equal to 0"),
        ("max_fields", 1.5, "integer"),
    ],
)
def test_a_value_out_of_bounds_is_refused(key: str, value: object, says: str) -> None:
    (problem,) = problems(None, {key: value})
    assert problem.startswith(f"{key} (from the command line): ")
    assert says in problem


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("https", "0.0.0.0:443", "0.0.0.0:443"),
        ("https", "[0::1]:0", "[::1]:0"),
        ("https", "LOCALHOST:8443", "localhost:8443"),
        ("domain", "Tunnels.Example.ORG.", "tunnels.example.org"),
        ("zone", "192.0.2.7", "192.0.2.7"),
        ("zone", "2001:DB8::7", "2001:db8::7"),
        ("zone", "[2001:DB8::7]", "2001:db8::7"),
        ("drain_seconds", 0, 0),
        ("access_log", "OFF", "off"),
        ("access_log", "/var/log/Access", "/var/log/Access"),
    ],
)
def test_values_are_kept_in_one_spelling(key: str, value: object, kept: object) -> None:
    assert getattr(ServerSettings.load(None, {key: value}), key) == kept


@pytest.mark.parametrize(
    ("text", "says"), [("domain = ", "is not TOML"), (None, "no such file"), ("\udcff", "")]
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "wellhead.toml"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (problem,) = problems(path)
    assert str(path) in problem and says in problem


def test_the_record_is_frozen_and_does_not_read_the_environment_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WELLHEAD_DOMAIN", "example.org")
    settings = ServerSettings()
    assert settings.domain == "localhost"
    with pytest.raises(ValidationError):
        settings.domain = "example.org"  # type: ignore[misc]  # that it is refused is the point


def test_every_setting_says_what_it_does_and_names_its_unit() -> None:
    for key, field in ServerSettings.model_fields.items():
        assert field.description, key
        if field.annotation is float:
            assert key.endswith(("_seconds", "_per_second", "_days")), key


def test_the_reference_page_is_the_printed_one() -> None:
    page = (REPOSITORY / "docs/reference/settings.md").read_text("utf-8")
    assert page == reference_page(), "run: make docs"


def test_home_is_a_directory_of_the_user_or_the_one_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path))
    assert module.home() == tmp_path
    monkeypatch.delenv("WELLHEAD_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.home() == tmp_path / ".wellhead"


@pytest.mark.parametrize("name", ["max_head_bytes", "max_trailer_bytes"])
def test_what_has_to_fit_into_a_frame_may_not_be_longer(name: str) -> None:
    assert "61440" in problems(overrides={name: 61441})[0]
    ServerSettings.load(None, {name: 61440})


ACME = {"issuer": "acme", "domain": "example.org"}


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ({}, None),
        ({"http": "off"}, "http: needed, because acme_challenge is http-01"),
        ({"acme_challenge": "tls-alpn-01", "http": "off"}, None),
        ({"acme_challenge": "dns-01"}, "dns_provider: needed, because acme_challenge is dns-01"),
        ({"acme_challenge": "dns-01", "dns_provider": "route53"}, None),
        (
            {"acme_challenge": "dns-01", "dns_provider": "command"},
            "dns_command: needed, because dns_provider",
        ),
        ({"acme_eab_kid": "kid"}, "acme_eab_key_file: needed, because acme_eab_kid is set"),
        ({"acme_eab_key_file": "/key"}, "acme_eab_kid: needed, because acme_eab_key_file is set"),
    ],
)
def test_what_a_chosen_issuer_lacks_is_said(more: dict[str, object], missing: str | None) -> None:
    if missing is None:
        assert ServerSettings.load(None, {**ACME, **more}).issuer == "acme"
    else:
        (said,) = problems(None, {**ACME, **more})
        assert said.startswith(missing)
    assert ServerSettings.load(None, {**more, "issuer": "local"}).issuer == "local"


def test_dns_updates_need_a_server_and_a_key() -> None:
    said = problems(None, {**ACME, "acme_challenge": "dns-01", "dns_provider": "rfc2136"})
    assert [line.partition(":")[0] for line in said] == [
        "dns_server",
        "dns_tsig_name",
        "dns_tsig_secret_file",
    ]


@pytest.mark.parametrize("given", ["192.0.2.1", "[2001:db8::1]", "2001:db8::1", "ns1.example.org"])
def test_a_dns_server_without_a_port_has_port_53(given: str) -> None:
    assert str(ServerSettings.load(None, {"dns_server": given}).dns_server).endswith(":53")


def test_an_acme_directory_is_asked_with_tls_only() -> None:
    (said,) = problems(None, {"acme_directory": "http://acme.example.org/dir"})
    assert "is not an https:// URL" in said
