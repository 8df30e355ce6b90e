from __future__ import annotations

import asyncio
import io
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest

from tests.kit.programs import Edge, Program, environment, quiet_port, run, wellhead
from tests.kit.small_apps import TextApp, served
from wellhead.cli.exit import ExitCode
from wellhead.cli.start import Fleet, Watch, prefixed
from wellhead.cli.start_plan import Wanted, read_plan
from wellhead.errors import Conflict, SettingsError, WellheadError

# The file


def _file(directory: Path, text: str) -> Path:
    path = directory / "wellhead.toml"
    path.write_text(text)
    return path


def test_a_file_names_tunnels_and_where_they_lead(tmp_path: Path) -> None:
    plan = read_plan(
        _file(
            tmp_path,
            '[tunnels.my-app]\nforward_to = 8000\n[tunnels.my-api]\nforward_to = "https://10.0.0.7:8443"\n'
            'host_header = "preserve"\nupstream_http = "2"\ncarrier = "h2"\n'
            'verify_upstream = false\nupstream_ca_file = "ca.pem"\n',
        )
    )
    assert list(plan.values()) == [
        Wanted("my-app", "8000"),
        Wanted("my-api", "https://10.0.0.7:8443", "preserve", "2", False, tmp_path / "ca.pem", "h2"),
    ]


def test_a_tunnel_of_a_file_may_end_tls_itself(tmp_path: Path) -> None:
    plan = read_plan(_file(tmp_path, '[tunnels.my-app]\nforward_to = 8000\ntls_mode = "passthrough"\n'))
    assert plan["my-app"] == Wanted("my-app", "8000", tls_mode="passthrough")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no tunnels"),
        ("[tunnels]", "has no tunnels"),
        ("tunnels = 8000", "must be tables: [tunnels.NAME]"),
        ("[tunnel.my-app]\nforward_to = 1", 'unknown key "tunnel"'),
        ("[tunnels.my-app]", "forward_to is missing"),
        ("[tunnels.my-app]\nforward = 8000", "did you mean forward_to?"),
        ("[tunnels.my-app]\nforward_to = true", "forward_to must be a string or a port, not"),
        ("[tunnels.my-app]\nforward_to = 0", "port must be 1..65535"),
        ('[tunnels.my-app]\nforward_to = "ftp://x"', "upstream scheme must be"),
        ('[tunnels.my-app]\nforward_to = 1\nhost_header = "a b"', "a b"),
        ('[tunnels.my-app]\nforward_to = 1\nupstream_http = "3"', "must be auto, 1.1 or 2"),
        ('[tunnels.my-app]\nforward_to = 1\ncarrier = "h3"', "carrier must be auto, mux or h2, not 'h3'"),
        ('[tunnels.my-app]\nforward_to = 1\ntls_mode = "both"', "tls_mode must be edge or passthrough"),
        ('[tunnels.my-app]\nforward_to = "h2c://x:1"\nupstream_http = "1.1"', "speaks HTTP/2"),
        ("[tunnels.my-app]\nforward_to = 1\nhost_header = 1", "host_header must be a string"),
        ('[tunnels.my-app]\nforward_to = 1\nverify_upstream = "no"', "must be true or false"),
        ("[tunnels.Big]\nforward_to = 8000", "only a-z, 0-9 and -"),
        ("[tunnels]\nmy-app = 8000", "must be a table, [tunnels.my-app]"),
        ("[tunnels.my-app]\nforward_to = 1\n[tunnels.my-app]\nforward_to = 2", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(text: str, complaint: str, tmp_path: Path) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_plan(path)
    assert complaint in str(caught.value) and str(path) in str(caught.value)


def test_every_fault_is_a_line(tmp_path: Path) -> None:
    ended = run(
        "start",
        "--check",
        "--config",
        str(_file(tmp_path, "[tunnels.a]\nx = 1\n[tunnels.b-c]\n")),
        home=tmp_path,
    )
    assert ended.returncode == ExitCode.SETTINGS and ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines), lines


def test_a_check_says_what_would_be_and_does_nothing(tmp_path: Path) -> None:
    path = _file(tmp_path, "[tunnels.my-app]\nforward_to = 8000\n")
    ended = run("start", "--check", "--config", str(path), home=tmp_path / "home")
    assert ended.returncode == ExitCode.OK
    assert ended.stdout == f"{path} is valid: my-app -> http://localhost:8000\n"
    assert not (tmp_path / "home").exists()


def test_a_missing_file_comes_with_a_hint(tmp_path: Path) -> None:
    ended = run("start", "--config", str(tmp_path / "none.toml"), home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS
    assert "none.toml: no such file" in ended.stderr and "hint: " in ended.stderr


def test_a_file_is_seen_to_change_once_it_keeps_still(tmp_path: Path) -> None:
    path = _file(tmp_path, "a")
    watch = Watch(path)
    assert [watch.changed(), watch.changed()] == [False, False]
    path.write_text("ab")
    assert [watch.changed(), watch.changed(), watch.changed()] == [False, True, False]
    path.unlink()
    assert [watch.changed(), watch.changed()] == [False, False]
    (tmp_path / "new").write_text("abc")
    os.replace(tmp_path / "new", path)
    assert [watch.changed(), watch.changed()] == [False, True]


# The fleet


class _Hand:
    """A worker that connects when it is told to and then stays."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.error: WellheadError | None = None
        self.go = asyncio.Event()
        self.here = False

    async def run(self, connected: Callable[[], None]) -> None:
        await self.go.wait()
        connected()
        if self.error is None:
            self.here = True
            try:
                await asyncio.Event().wait()
            finally:
                self.here = False


class _Fleet(Fleet):
    def __init__(self) -> None:
        self.hands: list[_Hand] = []
        super().__init__(self._hire_one)

    def _hire_one(self, wanted: Wanted) -> _Hand:
        self.hands.append(_Hand(wanted))
        return self.hands[-1]


def _plan(**ports: int) -> dict[str, Wanted]:
    return {name: Wanted(name, str(port)) for name, port in ports.items()}


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_what_changed_is_touched_and_the_new_one_is_there_before_the_old_leaves() -> None:
    fleet = _Fleet()
    fleet.apply(_plan(a=1, b=2, c=3))
    for hand in fleet.hands:
        hand.go.set()
    await _turns()
    assert fleet.apply(_plan(a=1, b=20, d=4)) == "1 new, 1 changed, 1 gone, 1 as before"
    await _turns()
    assert [hand.wanted.name for hand in fleet.hands if hand.here] == ["a", "b"]
    new_b = fleet.hands[3]
    new_b.go.set()
    await _turns()
    assert [hand.wanted.forward_to for hand in fleet.hands if hand.here] == ["1", "20"]
    await fleet.close()
    assert not any(hand.here for hand in fleet.hands)


async def test_one_given_up_leaves_the_others_alone_until_it_is_the_last() -> None:
    fleet = _Fleet()
    fleet.apply(_plan(a=1, b=2))
    _, bad = fleet.hands
    bad.error = Conflict(409, "taken")
    for hand in fleet.hands:
        hand.go.set()
    await _turns()
    assert [hand.wanted.name for hand in fleet.hands if hand.here] == ["a"]
    assert fleet.nothing_left() is None
    fleet.apply(_plan(b=2))
    again = fleet.hands[2]  # what was given up is tried again when the file is read again
    again.error = bad.error
    again.go.set()
    await _turns()
    assert fleet.nothing_left() is bad.error
    assert not any(hand.here for hand in fleet.hands)
    await fleet.close()


def test_every_line_begins_with_its_tunnel() -> None:
    out = io.StringIO()
    prefixed(lambda text: out.write(text) > 0, "my-app", colour=False)("one\ntwo\n")
    assert out.getvalue() == "my-app | one\nmy-app | two\n"


# All of it


class _Upstream(TextApp):
    def text(self) -> str:
        assert isinstance(self.server, HTTPServer)
        return str(self.server.server_port)


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[int, int]]:
    with served(_Upstream) as first, served(_Upstream) as second:
        yield first, second


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as edge:
        yield edge


def _visit(edge: Edge, name: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{edge.http}/hi")
    request.add_header("Host", f"{name}.localhost:{edge.http}")
    with urllib.request.urlopen(request, timeout=20) as reply:
        text: str = reply.read().decode()
    return text


def _tunnels(**ports: int) -> str:
    return "".join(
        f"[tunnels.{name.replace('_', '-')}]\nforward_to = {port}\n" for name, port in ports.items()
    )


def _starting(edge: Edge, path: Path, **extra: str) -> Program:
    return Program(wellhead("start", "--config", str(path)), environment(edge.home, **extra))


def test_the_tunnels_of_a_file_are_served_and_the_file_is_followed(
    edge: Edge, upstreams: tuple[int, int], tmp_path: Path
) -> None:
    one, two = upstreams
    path = _file(tmp_path, _tunnels(start_one=one, start_two=two, admin=one))
    with _starting(edge, path) as program:
        program.line(r"^start-one \| connected$")
        program.line(r"^start-two \| connected$")
        program.line(r"^admin \| given up: .*reserved")
        assert (_visit(edge, "start-one"), _visit(edge, "start-two")) == (str(one), str(two))
        program.line(r"^start-two \| GET    /hi 200 ")

        seen = program.mark()
        path.write_text(_tunnels(start_one=one, start_two=one, start_three=two))
        program.line(r"was read again: 1 new, 1 changed, 1 gone, 1 as before$", after=seen)
        program.line(rf"^start-two \| https://start-two\S+ -> http://localhost:{one}$", after=seen)
        program.line(r"^start-three \| connected$", after=seen)
        assert (_visit(edge, "start-two"), _visit(edge, "start-three")) == (str(one), str(two))
        assert not [line for line in program.lines[seen:] if line.startswith("start-one | conn")]

        seen = program.mark()
        path.write_text("[tunnels.start-one]\nforward = 1\n")
        program.line(r"^error: .*did you mean forward_to\?$", after=seen)
        assert _visit(edge, "start-one") == str(one)
        assert program.stop(signal.SIGINT) == ExitCode.OK
        assert "Traceback" not in program.text and "whs_" not in program.text


def test_an_app_with_tls_is_trusted_by_the_ca_that_the_file_names(
    edge: Edge, secured: tuple[int, Path], tmp_path: Path
) -> None:
    port, ca_file = secured
    tables = [
        f'[tunnels.{name}]\nforward_to = "https://localhost:{port}"\n{trust}\n'
        for name, trust in {
            "start-trusted": f'upstream_ca_file = "{ca_file}"',
            "start-unseen": "verify_upstream = false",
            "start-strange": "",
        }.items()
    ]
    with _starting(edge, _file(tmp_path, "".join(tables))) as program:
        for name in ("start-trusted", "start-unseen"):
            program.line(rf"^{name} \| connected$")
            assert _visit(edge, name) == "hello /hi"
        program.line(r"^start-strange \| the upstream is not trusted \(")
        assert program.stop(signal.SIGINT) == ExitCode.OK
    told = [line for line in program.out if "visitors get 502" in line]
    assert len(told) == 1


def test_quiet_tells_how_the_tunnels_do_and_no_request(
    edge: Edge, upstreams: tuple[int, int], tmp_path: Path
) -> None:
    path = _file(tmp_path, _tunnels(start_quiet=upstreams[0]))
    command = wellhead("start", "--config", str(path), "--quiet")
    with Program(command, environment(edge.home)) as program:
        program.line(r"^start-quiet \| connected$")
        assert _visit(edge, "start-quiet") == str(upstreams[0])
        assert program.stop(signal.SIGINT) == ExitCode.OK
    assert "GET" not in program.text


def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path: Path, upstreams: tuple[int, int]) -> None:
    home, port = tmp_path / "home", quiet_port()
    with Edge(home, https=f"127.0.0.1:{port}") as first:
        first.stop()
    path = _file(tmp_path, _tunnels(start_late=upstreams[0]))
    with Program(wellhead("start", "--config", str(path)), environment(home)) as program:
        program.line(r"^start-late \| no tunnel yet: .*refused; trying again$")
        with Edge(home, https=f"127.0.0.1:{port}") as second:
            program.line(r"^start-late \| connected$")
            assert _visit(second, "start-late") == str(upstreams[0])
            assert program.stop(signal.SIGTERM) == ExitCode.OK


def test_it_ends_with_the_reason_when_no_tunnel_is_left(edge: Edge, tmp_path: Path) -> None:
    path = _file(tmp_path, _tunnels(start_one=1, start_two=2))
    with _starting(edge, path, WELLHEAD_API_KEY="wh_wrong") as program:
        assert program.wait() == ExitCode.REFUSED
    assert len([line for line in program.out if " | given up: " in line]) == 2
    assert program.err[0].startswith("error: ")


def test_a_hangup_signal_has_the_file_read_at_once(
    edge: Edge, upstreams: tuple[int, int], tmp_path: Path
) -> None:
    path = _file(tmp_path, _tunnels(start_hup=upstreams[0]))
    with _starting(edge, path) as program:
        program.line(r"^start-hup \| connected$")
        program.signal(signal.SIGHUP)
        program.line(r"was read again: 1 as before$")
        assert program.stop(signal.SIGTERM) == ExitCode.OK
