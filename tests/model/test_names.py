from __future__ import annotations

import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import InputError
from wellhead.model import names
from wellhead.model.names import Public
from wellhead.model.text import shown


@pytest.mark.parametrize("name", ["abc", "a1b", "my-agent", "0-0", "a" * 63, "calm-otter-7k2p"])
def test_a_name_by_the_rules_is_taken(name: str) -> None:
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "0 characters, 3 to 63"),
        ("ab", "2 characters, 3 to 63"),
        ("a" * 64, "64 characters, 3 to 63"),
        ("Abc", 'contains "A"'),
        ("a_b", 'contains "_"'),
        ("_dmarc", 'contains "_"'),
        ("a.b.c", 'contains "."'),
        ("abc\n", r'contains "\n"'),
        ("caf\u00e9", "only a-z, 0-9 and -"),
        ("\u212aelvin", "only a-z, 0-9 and -"),  # KELVIN SIGN, which lower() makes a k
        ("a\u0661b", "only a-z, 0-9 and -"),  # a digit elsewhere
        ("-abc", "must begin and end"),
        ("abc-", "must begin and end"),
        ("xn--caf-dma", 'must not contain "--"'),
        ("a--b", 'must not contain "--"'),
    ],
)
def test_a_refused_name_is_told_the_rule_and_the_value(name: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        names.check_name(name)
    assert rule in str(caught.value)
    assert shown(name) in str(caught.value)


@given(st.text())
def test_what_is_taken_as_a_name_is_one_dns_label_and_no_punycode(text: str) -> None:
    if names.name_fault(text) is None:
        assert set(text) <= set(string.ascii_lowercase + string.digits + "-")
        assert names.check_hostname(f"{text}.localhost") == f"{text}.localhost"
        assert not text.startswith("xn--")


@pytest.mark.parametrize(
    "name", ["api", "www", "admin", "mail", "proxy", "localhost", "3000-cl-1abc", "0-cl-"]
)
def test_names_of_the_house_and_of_sandbox_ports_are_reserved(name: str) -> None:
    assert names.is_reserved(name)


def test_no_name_passes_for_a_tunnels_id() -> None:
    """Agents may say either: a tunnel named as another's id would be taken for it."""
    made = str(uuid.uuid4())
    assert names.name_fault(made) is None and names.is_reserved(made)
    assert not names.is_reserved(made[:-1]) and not names.is_reserved(f"a-{made}")


def test_the_operator_reserves_more() -> None:
    assert not names.is_reserved("acme-corp")
    assert names.is_reserved("acme-corp", ["acme-corp"])
    assert not names.is_reserved("cl-3000")


def test_suggestions_are_good_names_and_differ() -> None:
    made = {names.suggest() for _ in range(200)}
    assert len(made) == 200
    assert all(names.name_fault(name) is None and not names.is_reserved(name) for name in made)
    assert all(len(name.split("-")) == 3 and len(name.split("-")[2]) == 4 for name in made)


@pytest.mark.parametrize(
    ("authority", "hostname", "port"),
    [
        ("localhost", "localhost", None),
        ("LocalHost.:8443", "localhost", 8443),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]", "::1", None),
        ("[0:0::1]:65535", "::1", 65535),
        ("my-agent.example.org:443", "my-agent.example.org", 443),
    ],
)
def test_an_authority_is_cut_into_hostname_and_port(authority: str, hostname: str, port: int | None) -> None:
    assert names.split_authority(authority) == (hostname, port)
    assert names.split_authority(names.join_authority(hostname, port)) == (hostname, port)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "a:",
        "a:65536",
        "a:+1",
        "a:1_0",
        "a: 1",
        "a:\u0661",
        "a:1:2",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]80",
        "[127.0.0.1]",
        "[fe80::1%eth0]",
        "127.1",
        "256.0.0.1",
        "01.2.3.4",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a@b",
        "a/b",
        "a\x00",
        "caf\u00e9.org",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_authority_is_refused(authority: str) -> None:
    with pytest.raises(InputError):
        names.split_authority(authority)


@given(st.text(max_size=80))
def test_any_text_is_an_authority_or_an_input_error(text: str) -> None:
    try:
        hostname, _ = names.split_authority(text)
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert hostname.isascii() and hostname == hostname.lower()


@pytest.mark.parametrize(
    "hostname",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"],
)
def test_names_of_this_machine_are_known_without_a_resolver(hostname: str) -> None:
    assert names.is_loopback(hostname)


@pytest.mark.parametrize(
    "hostname",
    ["localhost.example.org", "notlocalhost", "10.0.0.1", "::2", "::", "0.0.0.0", "", "127.0.0.1.x"],
)
def test_other_names_are_not_of_this_machine(hostname: str) -> None:
    assert not names.is_loopback(hostname)


def test_public_urls_name_the_port_only_where_the_scheme_does_not() -> None:
    near = Public("localhost", "localhost", 8443, 8080)
    assert near.hostname("my-agent") == "my-agent.localhost"
    assert near.urls("my-agent") == ["https://my-agent.localhost:8443", "http://my-agent.localhost:8080"]
    assert near.api_url == "https://localhost:8443"
    far = Public("example.org", "192.0.2.7", 443)
    assert far.urls("my-agent") == ["https://my-agent.example.org"]
    assert far.api_url == "https://192.0.2.7"
    assert Public("example.org", "2001:db8::7", 8443).api_url == "https://[2001:db8::7]:8443"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("https://LOCALHOST:8443/", "https://localhost:8443"),
        ("HTTPS://example.org:443", "https://example.org"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://api.localhost:8080", "http://api.localhost:8080"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_a_base_url_has_one_spelling(written: str, canonical: str) -> None:
    assert names.base_url(written) == canonical


@pytest.mark.parametrize(
    "written",
    [
        "",
        "localhost:8443",
        "ftp://localhost",
        "https://",
        "https://user@localhost",
        "https://localhost/api/v1",
        "https://localhost?x",
        "https://localhost#x",
        "https://local\thost",
        "http://example.org",
        "http://localhost.example.org",
    ],
)
def test_what_is_no_base_url_or_would_send_a_key_in_clear_is_refused(written: str) -> None:
    with pytest.raises(InputError):
        names.base_url(written)


def test_addresses_are_counted_alone_or_by_their_ipv6_network() -> None:
    assert names.address_group("192.0.2.1") == "192.0.2.1"
    assert (
        names.address_group("2001:db8:1:2::7")
        == names.address_group("2001:db8:1:2:ffff::1")
        == "2001:db8:1:2::/64"
    )
    assert names.address_group("2001:db8:1:3::7") != names.address_group("2001:db8:1:2::7")
    assert names.address_group("fe80::1%lo") == "fe80::/64"
    assert names.address_group("not:an:address") == "not:an:address" and names.address_group("") == ""
