"""The path form: the addresses that an application gives of itself go below the prefix, once."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import InputError
from wellhead.model.ports import PortName
from wellhead.model.sandboxes import SandboxId
from wellhead.wire.path_form import PathForm, read_path
from wellhead.wire.reply import read_reply

# The same in every worker: they stand in the names of tests.
SANDBOX, OTHER = SandboxId(f"cl-{1:025}"), SandboxId(f"cl-{2:025}")
ORIGIN = "https://proxy.example.com:8443"
FORM = PathForm(PortName(3000, SANDBOX), ORIGIN)
P = f"/{SANDBOX}/3000"
SAME = [
    "", "x", "./x", "../x", "?q", "#f", "x/y:z",  # relative
    "//example.com/x", "//localhost/x", "//localhost:3001/x", "///x",
    "https://example.com/x", "http://localhost/x", "http://localhost:3001/x", "http://localhost:30000/",
    "http://localhost:3000@evil.com/", "http://evil.com@localhost:3000/", "http://localhost:3000.evil.com/",
    "mailto:a@b", "javascript:alert(1)", "ftp://localhost:3000/", "https:/x", "\\\\evil.com", "\\x",
    P, f"{P}/", f"{P}/x", f"{P}?q", f"{P}#f",  # already there
    f"{ORIGIN}{P}/x", f"{ORIGIN}/{OTHER}/80/", "https://proxy.example.com/x", "http://proxy.example.com:8443/x",
]  # fmt: skip
MOVED = [
    ("/", f"{P}/"),
    ("/x", f"{P}/x"),
    ("/x//y?z=%2F#f", f"{P}/x//y?z=%2F#f"),
    ("/\\evil.com", f"{P}/\\evil.com"),
    ("/@evil.com", f"{P}/@evil.com"),
    (f"/{OTHER}/80/", f"{P}/{OTHER}/80/"),
    (f"{P}0/x", f"{P}{P}0/x"),
    (f"{P}.evil", f"{P}{P}.evil"),
    ("http://localhost:3000", f"{P}/"),
    ("http://localhost:3000/", f"{P}/"),
    ("HTTP://LocalHost:3000/x?q", f"{P}/x?q"),
    ("https://localhost:3000/x", f"{P}/x"),
    ("//localhost:3000/x", f"{P}/x"),
    ("http://127.0.0.1:3000/x", f"{P}/x"),
    ("http://[::1]:3000/x", f"{P}/x"),
    ("http://0.0.0.0:3000/x", f"{P}/x"),
    ("http://localhost:3000?q", f"{P}/?q"),
    ("http://localhost:3000#f", f"{P}/#f"),
    ("http://localhost:3000//evil.com", f"{P}//evil.com"),
    ("http://localhost:3000\\@evil.com", f"{P}/\\@evil.com"),
    (f"http://localhost:3000{P}/x", f"{P}/x"),
    (f"{ORIGIN}/x", f"{ORIGIN}{P}/x"),
    (ORIGIN, f"{ORIGIN}{P}/"),
]


def rewritten(*lines: str) -> list[str]:
    """The field lines of a reply, after the path form's were put in."""
    head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *lines, "")).encode("latin-1")
    facts = read_reply(FORM.reply_head(head), b"GET")
    *out, policy = facts.fields.decode("latin-1").removesuffix("\r\n").split("\r\n")
    assert policy == "Content-Security-Policy: sandbox"
    return out


@pytest.mark.parametrize("name", ["Location", "content-location"])
@pytest.mark.parametrize(("given", "expected"), [*((each, each) for each in SAME), *MOVED])
def test_an_address_of_the_applications_own_moves_below_the_prefix(
    name: str, given: str, expected: str
) -> None:
    assert rewritten(f"{name}: {given}", "A: /x") == [f"{name}: {expected}", "A: /x"]


@pytest.mark.parametrize("port", [80, 443])
def test_a_default_port_need_not_be_told(port: int) -> None:
    form = PathForm(PortName(port, SANDBOX), ORIGIN)
    scheme, other = ("http", "https") if port == 80 else ("https", "http")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        for authority in (host, f"{host}:{port}"):
            assert form.public(f"{scheme}://{authority}/x".encode()) == f"/{SANDBOX}/{port}/x".encode()
        assert form.public(f"{other}://{host}/x".encode()) == f"{other}://{host}/x".encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("5", "5"),
        ("5; url=/x", f"5; url={P}/x"),
        ("0;URL = /x y", f"0;URL = {P}/x y"),
        ("0.5, url='/x'; no", f"0.5, url='{P}/x'; no"),
        ('1;url="http://localhost:3000/"', f'1;url="{P}/"'),
        ("1 /x", f"1 {P}/x"),
        ("1; url=x", "1; url=x"),
        ("1; url=https://example.com/x", "1; url=https://example.com/x"),
        ("1; url=", "1; url="),
        (f"1; url={P}/", f"1; url={P}/"),
        ("x; url=/x", "x; url=/x"),
    ],
)
def test_a_refresh_leads_to_the_same_place(given: str, expected: str) -> None:
    assert rewritten(f"Refresh: {given}") == [f"Refresh: {expected}"]


def test_every_entry_of_a_link_moves_by_itself() -> None:
    entries = (
        '<{}/a>; rel=preload; as=script, <b>; rel="next </c>", <https://x.com/d,/e>;rel=x, <{}/f>; title="<"'
    )
    assert rewritten("Link: " + entries.format("", "http://localhost:3000")) == [
        f"Link: {entries.format(P, P)}"
    ]
    assert rewritten("Link: </a>", "link: </b>") == [f"Link: <{P}/a>", f"link: <{P}/b>"]


@pytest.mark.parametrize(
    "name",
    ["Accept-CH", "alt-svc", "Clear-Site-Data", "NEL", "Report-To", "Set-Login", "Strict-Transport-Security"],
)
def test_what_is_said_of_the_whole_origin_is_dropped(name: str) -> None:
    assert rewritten("A: 1", f"{name}: x", f"X-{name}: x", f"{name.upper()}: y") == ["A: 1", f"X-{name}: x"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a=b; Path=/; HttpOnly", f"a=b; Path={P}/; HttpOnly"),
        ("a=b;path=/x", f"a=b;path={P}/x"),
        (f"a=b; Path={P}/x", f"a=b; Path={P}/x"),
        ("a=b; Path=x", "a=b; Path=x"),
        ("a=b; Path=", "a=b; Path="),
        ("a=b", "a=b"),
        ("Path=/; Path=/", f"Path=/; Path={P}/"),
    ],
)
def test_a_cookie_stays_below_the_prefix(given: str, expected: str) -> None:
    assert rewritten(f"Set-Cookie: {given}") == [f"Set-Cookie: {expected}"]


@given(
    st.lists(
        st.sampled_from(
            [
                "/",
                "//",
                "\\",
                "@",
                "http:",
                "https:",
                "localhost:3000",
                "evil.com",
                P,
                ORIGIN,
                "?",
                "#",
                "..",
                "x",
            ]
        ),
        max_size=7,
    )
)
def test_rewriting_twice_changes_nothing_and_leads_to_no_other_host(pieces: list[str]) -> None:
    given_url = "".join(pieces)
    once = FORM.public(given_url.encode())
    assert FORM.public(once) == once
    if once != given_url.encode():
        landed = urlsplit(urljoin(f"{ORIGIN}{P}/", once.decode()))
        assert f"{landed.scheme}://{landed.netloc}" == ORIGIN and "\\" not in once.decode().partition("/")[0]


def test_an_interim_head_is_rewritten_and_a_malformed_one_is_left_to_its_reader() -> None:
    hints = FORM.reply_head(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    assert f"Link: <{P}/a>; rel=preload\r\n".encode() in hints and hints.endswith(b"\r\n\r\n")
    assert FORM.reply_head(b"HTTP/1.1 200 OK\r\nLocation: /x\r\n") == b"HTTP/1.1 200 OK\r\nLocation: /x\r\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"{ORIGIN}{P}/x?y", f"{ORIGIN}/x?y"),
        (f"{ORIGIN}{P}", f"{ORIGIN}/"),
        (f"{ORIGIN.upper()}{P}/x", f"{ORIGIN}/x"),
        (f"{ORIGIN}{P}0/x", f"{ORIGIN}{P}0/x"),
        (f"{ORIGIN}/{OTHER}/80/", f"{ORIGIN}/{OTHER}/80/"),
        (f"https://evil.com{P}/x", f"https://evil.com{P}/x"),
        (f"{P}/x", f"{P}/x"),
    ],
)
def test_what_a_browser_says_of_our_addresses_is_cut_back(given: str, expected: str) -> None:
    head = "GET /x HTTP/1.1\r\nHost: proxy\r\nReferer: {0}\r\ndestination: {0}\r\n{1}X-Request-Id: 1\r\n\r\n"
    told = f"X-Forwarded-Prefix: {P}\r\n"
    assert FORM.request_head(head.format(given, "").encode()).decode() == head.format(expected, told)


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "",
        "?q",
        "/x",
        "/../../y",
        "/%2e%2e/%2F",
        "//evil.com/",
        "/@evil.com",
        "/\\evil.com",
        "/a?/b/c",
        "/a;b//",
    ],
)
def test_a_target_chooses_id_and_port_and_the_rest_is_untouched(rest: str) -> None:
    written = read_path(f"{P}{rest}".encode())
    assert written is not None and written.name() == (3000, SANDBOX) and written.rest == rest.encode()


@pytest.mark.parametrize("target", [b"*", b"/", b"/x", b"/favicon.ico?a/b", b""])
def test_a_target_may_name_no_port(target: bytes) -> None:
    assert read_path(target) is None


NEARLY = [
    f"/{SANDBOX}/0/", f"/{SANDBOX}/03000/", f"/{SANDBOX}/65536/", f"/{SANDBOX}//3000/", f"/{SANDBOX}/%33000/",
    f"//{SANDBOX}/3000/", f"/{SANDBOX.upper()}/3000/", f"/./{SANDBOX}/3000/", f"/../{SANDBOX}/3000/",
    f"/%63{SANDBOX[1:]}/3000/", f"/{SANDBOX}\\3000/", f"/{SANDBOX}/127.1/", f"/{SANDBOX}/3000@evil/",
    f"/{SANDBOX}/..%2f/", "/localhost:3000/3000/", "/169.254.0.1/80/", f"/{SANDBOX}\xff/3000/", "//evil/",
]  # fmt: skip


@pytest.mark.parametrize("target", NEARLY)
def test_a_target_that_is_nearly_right_names_nothing(target: str) -> None:
    written = read_path(target.encode("latin-1"))
    if written is not None:
        with pytest.raises(InputError):
            written.name()


@given(st.binary(max_size=40))
def test_no_target_is_misread(rest: bytes) -> None:
    written = read_path(f"/{SANDBOX}/3000/".encode() + rest)
    assert written is not None and written.name() == (3000, SANDBOX) and written.rest == b"/" + rest
