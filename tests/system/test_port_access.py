"""Who sees a private port, as real programs and a real browser find out, and what siblings get of it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.kit import port_app
from tests.kit.browser import browsing
from tests.kit.hosted import NEEDED, hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge
from tests.kit.visitors import visiting

pytestmark = [*NEEDED, pytest.mark.timeout(180)]

# Of two labels: to a browser its names are one site. A port of `localhost` is a site of its own.
DOMAIN = "wellhead.test"
PORT, OTHER, FILES = 3000, 8000, 8001
SECONDS = 30.0
NAVIGATION = {"Accept": "text/html"}


@dataclass
class Place:
    """A server with a host; a private sandbox with applications on PORT and OTHER and files on FILES, and a
    sibling that everybody may see, with the same."""

    edge: Edge
    api: SandboxApi
    sandbox: str
    sibling: str

    def hostname(self, port: int = PORT, sandbox: str = "") -> str:
        return f"{port}-{sandbox or self.sandbox}.{DOMAIN}"

    def origin(self, port: int = PORT, sandbox: str = "") -> str:
        return f"https://{self.hostname(port, sandbox)}:{self.edge.https}"

    @property
    def below(self) -> str:
        """The path form of the private sandbox."""
        return f"https://proxy.{DOMAIN}:{self.edge.https}/{self.sandbox}"

    def link(self, port: int = PORT, path: str = "/echo", sandbox: str = "") -> str:
        """A new one, to this path."""
        asked = {"port": port}
        where = f"/sandboxes/{sandbox or self.sandbox}/links"
        made = httpx.URL(self.api.ask("POST", where, 201, json=asked)["url"])
        assert f"https://{made.netloc.decode()}" == self.origin(port, sandbox)
        return str(made.copy_with(raw_path=f"{path}{'&' if '?' in path else '?'}".encode() + made.query))

    def curl(self, *arguments: str) -> list[str]:
        """What curl writes, by lines."""
        first = ["curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", str(self.edge.ca)]
        names = [self.hostname(port, box) for port in (PORT, OTHER) for box in (self.sandbox, self.sibling)]
        resolve = [f"{name}:{self.edge.https}:127.0.0.1" for name in (*names, f"proxy.{DOMAIN}")]
        flags = [flag for each in resolve for flag in ("--resolve", each)]
        done = subprocess.run(
            [*first, *flags, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def status(self, url: str, *arguments: str) -> int:
        return int(self.curl("-o", "/dev/null", "-w", "%{http_code}\n", *arguments, url)[-1])

    def client(self, **options: Any) -> httpx.Client:
        """One that keeps cookies; names lead to this machine."""
        return httpx.Client(transport=_Here(self.edge), timeout=SECONDS, trust_env=False, **options)

    def socket(self, target: str, hostname: str = "", **options: Any) -> connect:
        url = f"wss://{hostname or self.hostname()}:{self.edge.https}{target}"
        return connect(
            url, host="127.0.0.1", port=self.edge.https, ssl=self.edge.trust(), proxy=None,
            open_timeout=SECONDS, **options,
        )  # fmt: skip


class _Here(httpx.HTTPTransport):
    """Every name leads to this machine, and the certificate is still the name's."""

    def __init__(self, edge: Edge) -> None:
        # To its pool all names are one.
        limits = httpx.Limits(max_keepalive_connections=0)
        super().__init__(verify=edge.trust(), trust_env=False, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        here = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions | {"sni_hostname": request.url.host},
        )
        return super().handle_request(here)


def start(api: SandboxApi, sandbox: str) -> None:
    script = base64.b64encode(Path(port_app.__file__).read_bytes()).decode()
    api.run(sandbox, "sh", "-c", f"echo {script} | base64 -d > /tmp/app.py; mkdir -p '/tmp/site/a b/c'")
    python = "/usr/bin/python3"
    for command in (
        [python, "/tmp/app.py", str(PORT)],
        [python, "/tmp/app.py", str(OTHER)],
        [python, "-m", "http.server", str(FILES), "--bind", "127.0.0.1", "--directory", "/tmp/site"],
    ):
        api.ask("POST", f"/sandboxes/{sandbox}/exec", 202, json={"argv": command, "background": True})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = {
        "domain": DOMAIN, "zone": "localhost", "sandbox_path_form": True, "access_log": "stderr",
        "sandbox_visibility": "private",
    }  # fmt: skip
    home = tmp_path_factory.mktemp("access") / ".wellhead"
    with hosted(home, settings=settings) as edge, SandboxApi(edge) as api:
        made = Place(edge, api, api.create(), api.create(visibility="public"))
        for sandbox in (made.sandbox, made.sibling):
            start(api, sandbox)
        yield made


# Programs


def test_curl_is_let_in_by_a_link_or_a_key_and_told_how_else(place: Place) -> None:
    page = place.curl("-H", "Accept: text/html", "-i", f"{place.origin()}/echo")
    assert page[0].startswith("HTTP/2 401") and "www-authenticate: Bearer" in page
    assert any("wellhead sandbox share" in line for line in page)
    told = json.loads("".join(place.curl(f"{place.origin()}/echo")))
    assert (told["status"], told["reason"]) == (401, "port-key")
    for version in ("--http1.1", "--http2"):
        for method in ("GET", "POST"):
            told = json.loads("".join(place.curl(version, "-X", method, place.link(path="/echo/a%2Fb//"))))
            assert (told["method"], told["target"]) == (method, "/echo/a%2Fb//")
        for field in (f"X-API-Key: {place.edge.key}", f"Authorization: Bearer {place.edge.key}"):
            told = json.loads("".join(place.curl(version, "-H", field, f"{place.origin()}/echo")))
            assert told["target"] == "/echo" and place.edge.key not in json.dumps(told)
    assert place.status(f"{place.origin()}/echo?api_key={place.edge.key}") == 401


def test_a_client_with_a_jar_exchanges_a_link_for_a_cookie_of_that_name_alone(place: Place) -> None:
    with place.client(follow_redirects=True, headers=NAVIGATION) as client:
        reply = client.get(place.link(path="/echo"))
        assert [each.status_code for each in reply.history] == [303] and reply.json()["target"] == "/echo"
        (cookie,) = client.cookies.jar
        assert cookie.name == "__Host-wellhead-port" and not cookie.domain_specified and cookie.secure
        pair = {"Cookie": f"{cookie.name}={cookie.value}; mine=1"}
        with place.client(headers=pair) as bare:
            assert dict(bare.get(f"{place.origin()}/echo").json()["fields"])["Cookie"] == "mine=1"
            for elsewhere in (place.origin(OTHER), place.origin(sandbox=place.api.create())):
                assert bare.get(f"{elsewhere}/echo").status_code == 401


def test_a_link_is_for_its_own_sandbox_and_whole(place: Place) -> None:
    link = place.link()
    token = link.rpartition("=")[2]
    foreign = place.link(sandbox=place.sibling).rpartition("=")[2]
    other = "B" if token[20] == "A" else "A"
    for bad in (foreign, token[:-2], token[:20] + other + token[21:], "x"):
        assert place.status(link.replace(token, bad)) == 401
    assert place.status(link) == 200


async def test_a_websocket_is_let_in_by_a_link_a_key_or_a_cookie_of_its_own_pages(place: Place) -> None:
    query = "?" + await asyncio.to_thread(lambda: place.link(path="/ws").partition("?")[2])
    with place.client(headers=NAVIGATION) as client:
        await asyncio.to_thread(client.get, place.origin() + "/echo" + query)
        (cookie,) = client.cookies.jar
    shown = {"Cookie": f"{cookie.name}={cookie.value}"}
    own, sibling = place.origin(OTHER), place.origin(sandbox=place.sibling)
    for target, fields in (
        (f"/ws{query}", {"Origin": "https://anybody.example"}),
        ("/ws", {"X-API-Key": place.edge.key}),
        ("/ws", shown),
        ("/ws", shown | {"Origin": own}),
    ):
        async with place.socket(target, additional_headers=fields) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
    for fields, status in ((shown | {"Origin": sibling}, 403), ({"Origin": own}, 401)):
        with pytest.raises(InvalidStatus) as refused:
            async with place.socket("/ws", additional_headers=fields):
                pass
        assert refused.value.response.status_code == status


async def test_what_one_visitor_shows_or_is_given_is_never_anothers(place: Place) -> None:
    """They share the host's connections to the application."""
    link = place.link(path="/").rpartition("=")[2]

    async def visit(number: int) -> None:
        mine = (f"Cookie: me={number}", f"X-Me: {number}", f"Authorization: Basic {number}")
        async with visiting(place.edge, place.hostname()) as visitor:
            for round_ in range(4):
                target, lines = f"/echo/{number}/{round_}", mine if number % 3 else ()
                shown = f"?wellhead_link={link}" if number % 4 else ""
                reply = await visitor.get(target + shown, visitor_host, *lines)
                if not shown:
                    assert reply.status == 401 and b"me" not in reply.body
                    continue
                told = json.loads(reply.body)
                assert told["target"] == target
                got = {f"{name}: {value}" for name, value in told["fields"]}
                assert {line for line in got if line.startswith(("Cookie:", "X-Me:", "Auth"))} == set(lines)
                assert (await visitor.get(f"/cookie{shown}", visitor_host)).status == 200

    visitor_host = f"{place.hostname()}:{place.edge.https}"
    await asyncio.gather(*(visit(number) for number in range(24)))


# The path form


def test_directory_redirects_lead_to_where_they_should_below_the_prefix(place: Place) -> None:
    key = ["-H", f"X-API-Key: {place.edge.key}"]
    shown = ["-L", "--max-redirs", "5", "-o", "/dev/null"]
    shown += ["-w", "%{http_code} %{num_redirects} %{url_effective}\n"]
    for path, redirects, at in (
        ("", 1, "/"),
        ("/", 0, "/"),
        ("/a%20b", 1, "/a%20b/"),
        ("/a%20b/c", 1, "/a%20b/c/"),
        ("/a%20b/c/?x=1", 0, "/a%20b/c/?x=1"),
    ):
        (line,) = place.curl(*key, *shown, f"{place.below}/{FILES}{path}")
        assert line == f"200 {redirects} {place.below}/{FILES}{at}"


def test_the_path_form_takes_keys_alone_and_lets_no_page_run(place: Place) -> None:
    url = f"{place.below}/{PORT}/echo"
    assert place.status(url) == place.status(f"{url}?{place.link().partition('?')[2]}") == 401
    head = place.curl("-i", "-H", f"X-API-Key: {place.edge.key}", f"{place.below}/{PORT}/page")
    assert head[0].startswith("HTTP/2 200") and "content-security-policy: sandbox" in head
    told = json.loads("".join(place.curl("-H", f"X-API-Key: {place.edge.key}", url)))
    fields = dict(told["fields"])
    assert told["target"] == "/echo" and fields["Host"] == f"localhost:{PORT}"
    assert fields["X-Forwarded-Prefix"] == f"/{place.sandbox}/{PORT}" and "X-API-Key" not in fields


@pytest.mark.parametrize(
    "rest", ["/../../x", "/%2e%2e/x", "/@evil.com/", "/\\evil.com/", "/a//b/%2F/", "//evil.com/x"]
)
def test_what_follows_the_port_chooses_nothing(place: Place, rest: str) -> None:
    key = ["--path-as-is", "-H", f"X-API-Key: {place.edge.key}"]
    for start_of in (f"{place.below}/{PORT}", place.origin()):
        assert json.loads("".join(place.curl(*key, start_of + rest)))["target"] == rest


async def test_a_websocket_comes_through_below_the_prefix(place: Place) -> None:
    target, name = f"/{place.sandbox}/{PORT}/ws", f"proxy.{DOMAIN}"
    async with place.socket(target, name, additional_headers={"X-API-Key": place.edge.key}) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
    with pytest.raises(InvalidStatus):
        async with place.socket(target, name):
            pass


# Browsers


@pytest.fixture(scope="module")
def browser(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    here = f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1"
    with browsing(place.edge, tmp_path_factory.mktemp("browser"), place.hostname(), here) as context:
        yield context


ECHO = "url => fetch(url, {credentials: 'include'}).then(r => r.status, () => 0)"
PUT = """url => fetch(url, {method: 'PUT', credentials: 'include', headers: {'X-Mine': '1'}, body: 'x'})
    .then(r => r.json()).then(told => told.method, () => '')"""
TALK = """url => new Promise(done => {
    const socket = new WebSocket(url); socket.onopen = () => socket.send('hello');
    socket.onmessage = message => done(message.data); socket.onerror = () => done('');
})"""
POST = """url => { const form = document.createElement('form'); form.method = 'POST'; form.action = url;
    document.body.append(form); form.submit(); }"""


def opened(browser: BrowserContext, url: str) -> Page:
    page = browser.new_page()
    page.goto(url)
    return page


def test_a_link_opens_a_page_that_works_whole_and_reaches_its_sandboxs_other_ports(
    place: Place, browser: BrowserContext
) -> None:
    opened(browser, place.link(OTHER, "/page"))
    page = opened(browser, place.link(PORT, "/page?x=%2F"))
    assert page.url == f"{place.origin()}/page?x=%2F" and page.inner_text("h1") == "here"
    assert page.evaluate("document.cookie") == ""
    page.reload()
    assert page.inner_text("h1") == "here"
    assert page.evaluate(ECHO, "/echo") == 200 and page.evaluate(PUT, "/echo") == "PUT"
    assert page.evaluate(TALK, f"{place.origin()}/ws".replace("https", "wss")) == "hello"
    # Across ports: a simple request, one with a preflight, and a conversation.
    assert page.evaluate(ECHO, f"{place.origin(OTHER)}/cors") == 200
    assert page.evaluate(PUT, f"{place.origin(OTHER)}/cors") == "PUT"
    assert page.evaluate(TALK, f"{place.origin(OTHER)}/ws".replace("https", "wss")) == "hello"


def test_a_siblings_page_gets_nothing_of_it_with_the_visitors_cookie(
    place: Place, browser: BrowserContext
) -> None:
    opened(browser, place.link(PORT, "/page"))
    page = opened(browser, f"{place.origin(sandbox=place.sibling)}/page")
    mark = place.edge.mark()
    assert page.evaluate(ECHO, f"{place.origin()}/cors") == 0
    assert page.evaluate(PUT, f"{place.origin()}/cors") == ""
    assert page.evaluate(TALK, f"{place.origin()}/ws".replace("https", "wss")) == ""
    page.evaluate("url => fetch(url, {mode: 'no-cors', credentials: 'include'})", f"{place.origin()}/cors")
    page.evaluate(
        "url => new Promise(done => { const image = new Image(); image.onerror = done; image.src = url; })",
        f"{place.origin()}/image",
    )
    with page.expect_navigation() as navigation:
        page.evaluate(POST, f"{place.origin()}/cors")
    assert navigation.value is not None and navigation.value.status == 403
    access = f" access port={PORT}-{place.sandbox} "
    place.edge.line(f"{access}.*method=POST .*status=403 .*port-origin", SECONDS, after=mark)
    lines = [line for line in place.edge.lines[mark:] if access in line and "favicon" not in line]
    let_in = [line for line in lines if "port-origin" not in line]
    # But for preflights, which show nobody's cookie.
    assert len(lines) - len(let_in) >= 6 and all("method=OPTIONS" in line for line in let_in), lines
    # What it links to opens, as from any other page.
    with page.expect_navigation() as navigation:
        page.evaluate("url => { location.href = url }", f"{place.origin()}/page")
    assert navigation.value is not None and navigation.value.status == 200


def test_a_siblings_cookies_stay_with_it(place: Place, browser: BrowserContext) -> None:
    page = opened(browser, f"{place.origin(sandbox=place.sibling)}/cookie")
    names = {cookie["name"]: cookie["domain"] for cookie in browser.cookies(page.url)}
    assert names == {"tossed": place.hostname(sandbox=place.sibling)}
    # With a script it can have a browser send one to all names of the domain; that is no cookie of ours.
    page.goto(f"{place.origin(sandbox=place.sibling)}/page")
    page.evaluate(f"document.cookie = 'wellhead-port=x; domain={DOMAIN}; path=/'")
    assert opened(browser, place.link(PORT, "/page")).inner_text("h1") == "here"
    told = browser.new_page()
    told.goto(f"{place.origin()}/echo")
    assert "wellhead" not in str(dict(json.loads(told.inner_text("body"))["fields"]).get("Cookie"))
