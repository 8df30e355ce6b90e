from __future__ import annotations

import datetime as dt
import signal
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import visit
from tests.kit.programs import Agent, Edge, quiet_port, run
from tests.kit.small_apps import Hello, served
from wellhead.agent import Status
from wellhead.cli.attending import StateLines, state_line
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run as run_here
from wellhead.errors import DialError


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with served(Hello) as port:
        yield port


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as edge:
        yield edge


def _get(edge: Edge, agent: Agent, path: str) -> str:
    return visit(edge, agent, path).text


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("main:app", "`wellhead run main:app` runs a Python application"),
        (".", "`wellhead serve .` serves the files of a directory"),
    ],
)
def test_what_another_command_takes_names_that_command(
    given: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(["http", given]) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines()[1:] == [f"hint: {hint}"]


@pytest.mark.parametrize(
    ("upstream", "complaint"),
    [
        ("0", "port must be 1..65535"),
        ("99999", "port must be 1..65535"),
        ("-1", "no such option"),
        ("abc", "has no port"),
        ("http://", "has no valid host"),
        ("ftp://x", "upstream scheme must be http, https, h2c, tls or unix, not 'ftp'"),
        ("http://x/path", "must not have a path"),
        ("app:port", "'app:port': port must be 1..65535"),
        ("http://user:secret@x", "must not carry a user name or password"),
        ("unix:relative", "needs an absolute path"),
        ("a b:80", "has no valid host"),
        ("", "has no port"),
    ],
)
def test_a_wrong_upstream_is_one_line_and_code_2(
    upstream: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(["http", upstream]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert told.startswith("error: ") and complaint in told and "secret" not in told


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--name", "A"], ExitCode.USAGE, "characters, 3 to 63 are allowed"),
        (["--name", "Big-Name"], ExitCode.USAGE, "only a-z, 0-9 and - are allowed"),
        (["--host-header", "a b", "--url", "https://localhost:1", "--api-key", "k"], ExitCode.USAGE, "a b"),
        (["--url", "ftp://x", "--api-key", "k"], ExitCode.USAGE, "is not a server's URL"),
        (["--url", "abc", "--api-key", "k"], ExitCode.USAGE, "is not a server's URL"),
        (["--url", "http://example.com", "--api-key", "k"], ExitCode.USAGE, "in clear"),
        (["--url", "https://x/path", "--api-key", "k"], ExitCode.USAGE, "and nothing more"),
        (["--url", "https://localhost:1"], ExitCode.SETTINGS, "no API key is known"),
        (["--url", "https://localhost:1", "--api-key", "a b"], ExitCode.USAGE, "holds a character"),
        (
            ["--url", "https://localhost:1", "--api-key", "k", "--ca-file", "/nowhere.pem"],
            ExitCode.SETTINGS,
            "/nowhere.pem",
        ),
        ([], ExitCode.SETTINGS, "no server is known"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_and_a_code(
    options: list[str], code: ExitCode, complaint: str, tmp_path: Path
) -> None:
    ended = run("http", "8000", *options, home=tmp_path / "home")
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("error: ") and complaint in ended.stderr
    assert "Traceback" not in ended.stderr and ended.stdout == ""


def test_a_server_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    url = f"https://localhost:{quiet_port()}"
    ended = run("http", "8000", "--url", url, "--api-key", "wh_x", home=tmp_path / "home")
    assert ended.returncode == ExitCode.UNREACHABLE
    first, hint = ended.stderr.splitlines()
    assert first.startswith("error: ") and url in first and "refused" in first
    assert "wellhead up" in hint


def test_an_authority_that_is_not_trusted_is_code_6(edge: Edge, tmp_path: Path) -> None:
    url = edge.api.removesuffix("/api/v1")
    ended = run("http", "8000", "--url", url, "--api-key", "wh_x", home=tmp_path / "home")
    assert ended.returncode == ExitCode.UNTRUSTED
    assert ended.stderr.splitlines()[-1].startswith("hint: give --ca-file")


def test_a_wrong_key_is_code_4(edge: Edge, tmp_path: Path) -> None:
    url = edge.api.removesuffix("/api/v1")
    ended = run(
        "http", "8000", "--url", url, "--api-key", "wh_x", "--ca-file", str(edge.ca), home=tmp_path / "home"
    )
    assert ended.returncode == ExitCode.REFUSED
    assert ended.stderr.splitlines()[-1].startswith("hint: `wellhead login` keeps a key")


def test_on_the_servers_machine_no_option_is_needed(edge: Edge, upstream: int) -> None:
    with edge.agent(upstream) as agent:
        assert _get(edge, agent, "/a?b=c") == "hello /a?b=c"
        agent.line(r"^GET +/a\?b=c 200 [0-9.]+ ms 12 B$")
        assert agent.stop(signal.SIGINT) == ExitCode.OK
    assert agent.out[0] == f"https://{agent.hostname}:{edge.https} -> http://localhost:{upstream}"
    assert agent.out[1] == f"http://{agent.hostname}:{edge.http} -> http://localhost:{upstream}"
    assert "error" not in agent.text and "Traceback" not in agent.text


def test_an_app_with_tls_is_trusted_by_its_own_ca_or_unseen_if_so_told(
    edge: Edge, secured: tuple[int, Path]
) -> None:
    port, ca_file = secured
    upstream = f"https://localhost:{port}"
    for options in (["--upstream-ca-file", str(ca_file)], ["--no-verify-upstream"]):
        with Agent(edge.home, upstream, "--name", "secured", *options) as agent:
            assert _get(edge, agent, "/") == "hello /"
            assert agent.stop(signal.SIGINT) == ExitCode.OK
        assert "502" not in agent.text


def test_an_app_whose_certificate_is_not_trusted_is_told_with_the_way_out(
    edge: Edge, secured: tuple[int, Path]
) -> None:
    with Agent(edge.home, f"https://localhost:{secured[0]}", "--name", "secured") as agent:
        agent.line(r"^the upstream is not trusted \(.*\); visitors get 502: give its CA \(upstream-ca-file\)")
        assert agent.stop(signal.SIGINT) == ExitCode.OK


@pytest.mark.parametrize("option", [["--no-verify-upstream"], ["--upstream-ca-file", "ca.pem"]])
def test_an_upstream_without_tls_has_nothing_to_verify(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(["http", "8000", *option]) == ExitCode.USAGE
    assert "upstream http://localhost:8000 has no certificate to verify" in capsys.readouterr().err


def test_a_ca_of_the_upstream_that_cannot_be_read_is_named(edge: Edge) -> None:
    ended = run("http", "https://localhost:1", "--upstream-ca-file", "/nowhere.pem", home=edge.home)
    assert ended.returncode == ExitCode.SETTINGS and "/nowhere.pem" in ended.stderr


def test_quiet_prints_the_urls_and_nothing_else(edge: Edge, upstream: int) -> None:
    with Agent(edge.home, str(upstream), "--name", "quiet", "--quiet", wait=False) as agent:
        agent.url = agent.line(r"^https://quiet\.localhost:\d+$")[0]
        agent.line(r"^http://quiet\.localhost:\d+$")
        assert _get(edge, agent, "/") == "hello /"
        assert agent.stop(signal.SIGINT) == ExitCode.OK
    assert len(agent.out) == 2


def test_a_made_up_name_is_remembered_for_its_upstream(edge: Edge, upstream: int) -> None:
    names = set()
    for _ in range(2):
        with edge.agent(upstream) as agent:
            names.add(agent.name)
            assert agent.stop() == ExitCode.OK
    assert len(names) == 1
    assert all(len(part) >= 3 for part in names.pop().split("-"))


def test_an_upstream_that_is_not_there_yet_is_told_and_then_served(edge: Edge) -> None:
    port = quiet_port()
    with edge.agent(port, "--name", "late-riser") as agent:
        agent.line(r"the upstream does not answer yet \(.*refused\); visitors get 502 until it does")
        with HTTPServer(("127.0.0.1", port), Hello) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            assert _get(edge, agent, "/") == "hello /"
            thread.join()
        assert agent.stop() == ExitCode.OK


def test_the_state_of_the_connection_is_told(tmp_path: Path, upstream: int) -> None:
    home = tmp_path / "home"
    with Edge(home) as first:
        ports = ("--https", f"127.0.0.1:{first.https}", "--http", f"127.0.0.1:{first.http}")
        agent = first.agent(upstream)
        first.kill()
    with agent:
        agent.line(r"^no connection: .*; trying again$")
        mark = agent.mark()
        with Edge(home, https=ports[1], http=ports[3]):
            agent.line(r"^connected$", after=mark)
        assert agent.stop(signal.SIGINT) == ExitCode.OK


def test_the_same_news_is_told_once() -> None:
    said: list[str] = []
    state = StateLines(said.append)
    state._open = True
    for error in ("refused", "refused", "no route"):
        state.changed(Status.RECONNECTING, DialError(error))
    state.changed(Status.CONNECTED, None)
    assert [line.split(";")[0] for line in said] == [
        "no connection: refused",
        "no connection: no route",
        "connected",
    ]


def test_renewals_of_a_certificate_are_told_and_so_is_why_one_failed() -> None:
    said: list[str] = []
    state = StateLines(said.append)
    state.opened(["https://a.localhost"], "http://localhost:8000")
    ends = dt.datetime(2030, 1, 2, 3, 4, tzinfo=dt.UTC)
    for error in (DialError("no route"), DialError("no route"), None):
        state.certificate(ends, error)
    assert said[1:] == [
        "certificate not renewed: no route; the one in use ends on 2030-01-02 03:04 UTC; trying again",
        "certificate renewed, good until 2030-01-02 03:04 UTC",
    ]


@pytest.mark.parametrize(
    ("status", "error", "line"),
    [
        (Status.CONNECTED, None, "connected"),
        (Status.RECONNECTING, DialError("refused"), "no connection: refused; trying again"),
        (Status.DRAINING, None, "the server is leaving; moving to a new connection"),
        (Status.CONNECTING, None, None),
        (Status.SUPERSEDED, None, "another agent answers for the tunnel now"),
        (Status.CLOSED, None, None),
    ],
)
def test_a_change_of_the_connection_in_a_persons_words(
    status: Status, error: DialError | None, line: str | None
) -> None:
    assert state_line(status, error) == line
