"""Sandboxes by the client that waits, against a server of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kit.sandbox_server import KEY, Refusal, SandboxServer, Served, sandbox_server
from wellhead.client import Client
from wellhead.client.sandbox_records import Channel, FileType, ProcessKind
from wellhead.client.sandboxes import Sandbox
from wellhead.errors import (
    ApiError,
    BadRequest,
    CommandFailed,
    CommandTimeout,
    Conflict,
    InputError,
    Invalid,
    LocalStateError,
    NotFound,
    ProtocolError,
    SandboxState,
    StateError,
    TooLarge,
    Unauthorized,
    Unavailable,
    WellheadError,
)
from wellhead.model.sandbox_records import TemplateKind
from wellhead.model.sandboxes import HostStatus, SandboxStatus, new_sandbox_id
from wellhead.model.visibility import Visibility


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with sandbox_server(tmp_path_factory.mktemp("sandboxes")) as served:
        yield served


@pytest.fixture
def server(served: Served) -> Iterator[SandboxServer]:
    yield served[0]
    served[0].refusal = None
    served[0].kept = 1024 * 1024


@pytest.fixture
def client(served: Served, server: SandboxServer) -> Iterator[Client]:
    with Client(f"https://localhost:{served[1]}", KEY, ca_file=served[2]) as client:
        yield client


@pytest.fixture
def sandbox(client: Client) -> Iterator[Sandbox]:
    with client.sandboxes.create() as sandbox:
        yield sandbox


def test_a_sandboxs_life(client: Client) -> None:
    with client.sandboxes.create(
        "python",
        vcpus=2,
        memory_mb=1024,
        disk_mb=100,
        timeout_seconds=600,
        env={"A": "b"},
        metadata={"k": "v"},
    ) as sandbox:
        info = sandbox.info
        assert (info.template, info.vcpus, info.memory_mb, info.disk_size_mb) == ("python", 2, 1024, 100)
        assert (info.timeout_sec, info.metadata) == (600, {"k": "v"})
        assert sandbox.id in [each.id for each in client.sandboxes.list(status=SandboxStatus.RUNNING)]
        assert sandbox.update(metadata={}).metadata == {} == sandbox.info.metadata
        info = sandbox.info
        assert client.sandboxes.get(sandbox.id).info == info
        assert sandbox.exec("echo $A").text == "b\n"
        assert sandbox.pause().status is SandboxStatus.PAUSED is sandbox.info.status
        with pytest.raises(SandboxState, match="paused"):
            sandbox.exec("true")
        sandbox.resume()
        sandbox.ping()
        assert sandbox.refresh().status is SandboxStatus.RUNNING
        assert sandbox.metrics(range="5m")[0].cpu_percent == 1.5
        assert sandbox.ports()[0].port == 8000
    assert client.sandboxes.get(sandbox.id).info.status is SandboxStatus.STOPPED


def test_what_listens_is_told_with_who_may_see_it_and_where(sandbox: Sandbox) -> None:
    sandbox.set_visibility("public", 8000)
    (port,) = sandbox.ports()
    assert (port.port, port.address, port.pid, port.user) == (8000, "127.0.0.1", 12, "wrenn-user")
    assert port.argv == ["python3", "-m", "http.server"]
    assert port.visibility is Visibility.PUBLIC
    assert port.url == sandbox.url(8000) == f"https://8000-{sandbox.id}.localhost:8443"
    assert sandbox.url(8000, plain=True) == f"http://8000-{sandbox.id}.localhost:8080"


def test_who_may_see_ports(client: Client) -> None:
    with client.sandboxes.create(
        visibility="team", port_visibility={80: Visibility.PRIVATE}, auto_resume=True
    ) as sandbox:
        info = sandbox.info
        assert (info.visibility, info.auto_resume) == (Visibility.TEAM, True)
        assert (info.visibility_of(80), info.visibility_of(81)) == (Visibility.PRIVATE, Visibility.TEAM)
        sandbox.update(auto_resume=False, port_visibility={80: None, 3000: "public"})
        assert sandbox.info.port_visibility == {3000: Visibility.PUBLIC} and not sandbox.info.auto_resume
        heard_of_less = client.sandboxes.get(sandbox.id)
        sandbox.set_visibility(Visibility.PUBLIC, 3001)
        heard_of_less.set_visibility("private")  # of all of them, whoever changed them meanwhile
        assert heard_of_less.info == sandbox.refresh()
        assert (sandbox.info.visibility, sandbox.info.port_visibility) == (Visibility.PRIVATE, {})


def test_links_are_made_and_voided(sandbox: Sandbox) -> None:
    link = sandbox.share(3000, expires_in=60)
    assert link.url == f"{sandbox.url(3000)}/?wellhead_link=EXAMPLE0" and link.port == 3000
    assert link.expires_at == datetime(2026, 1, 31, 12, 1, tzinfo=UTC)
    sandbox.revoke_links()
    every = sandbox.share()
    assert every.port is None and "https://{port}-cl-" in every.url and every.url.endswith("EXAMPLE1")
    with pytest.raises(Invalid, match="1 to 2592000, not 99999999"):
        sandbox.share(expires_in=99999999)


def test_what_is_no_port_and_no_visibility_is_not_sent(sandbox: Sandbox) -> None:
    asks: list[Callable[[int], object]] = [
        sandbox.url,
        sandbox.share,
        lambda port: sandbox.set_visibility("public", port),
        lambda port: sandbox.update(port_visibility={port: "public"}),
    ]
    for ask in asks:
        for wrong in (0, -1, 65536):
            with pytest.raises(InputError, match=f"port {wrong} is not a number from 1 to 65535"):
                ask(wrong)
    with pytest.raises(InputError, match='"open" is none of private, team, public'):
        sandbox.set_visibility("open")


def test_what_a_server_has_no_name_for_is_told(client: Client, server: SandboxServer) -> None:
    with client.sandboxes.create() as sandbox:
        record = server.sandboxes[sandbox.id].record
        record["plain_url"] = None
        sandbox.refresh()
        with pytest.raises(InputError, match="no plain port"):
            sandbox.url(8000, plain=True)
        record["url"] = None
        sandbox.refresh()
        assert sandbox.ports()[0].url is None
        with pytest.raises(ProtocolError, match="does not say where"):
            sandbox.url(8000)


def test_what_is_no_id_is_not_sent(client: Client) -> None:
    for wrong in ("", "nothing", "cl-../../hosts", "host-" + "0" * 25):
        with pytest.raises(InputError, match="is not the id of a sandbox"):
            client.sandboxes.get(wrong)
    with pytest.raises(NotFound, match="the sandbox is not there"):
        client.sandboxes.get(new_sandbox_id())
    with pytest.raises(NotFound, match="no-such"):
        client.sandboxes.create("no-such")
    with pytest.raises(InputError, match="template name"):
        client.sandboxes.create("../x")


def test_a_command_gives_its_bytes_and_how_it_ended(sandbox: Sandbox) -> None:
    done = sandbox.exec("printf 'a\\377b'; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.exit_code, done.ok) == (b"a\xffb", b"err\n", 3, False)
    assert done.text == "a\\xffb"
    with pytest.raises(CommandFailed, match="exit code 3") as failed:
        done.check()
    assert failed.value.exit_code == 3 and failed.value.stderr == b"err\n"
    assert sandbox.exec(["sh", "-c", "kill -TERM $$"]).signal == 15
    assert sandbox.exec(["printf", "%s", "a b  c"], cwd="/", env={"X": "y"}).check().text == "a b  c"


def test_a_commands_input_is_all_of_it_whatever_it_writes_meanwhile(sandbox: Sandbox) -> None:
    data = os.urandom(1024 * 1024) * 48  # more than all that lies between can hold
    assert sandbox.exec(["cat"], stdin=data).stdout == data
    assert sandbox.exec(["true"], stdin=data).exit_code == 0  # it reads none of it


def test_a_text_is_no_input(sandbox: Sandbox) -> None:
    with pytest.raises(InputError, match="not str: encode a text first"):
        sandbox.exec(["cat"], stdin="text")  # type: ignore[arg-type]
    with (
        sandbox.exec_stream(["cat"], stdin=True) as running,
        pytest.raises(InputError, match="not str: encode"),
    ):
        running.send("text")  # type: ignore[arg-type]


def test_a_commands_time_may_be_over(sandbox: Sandbox) -> None:
    with pytest.raises(CommandTimeout) as over:
        sandbox.exec("echo begun; exec sleep 60", timeout_seconds=0.5)
    assert over.value.stdout == b"begun\n"
    with pytest.raises(InputError, match="above 0"):
        sandbox.exec("true", timeout_seconds=0)
    with pytest.raises(InputError, match="a command is needed"):
        sandbox.exec([])
    with pytest.raises(NotFound, match="no-such-program"):
        sandbox.exec(["no-such-program"])
    with pytest.raises(NotFound, match="/nowhere"):
        sandbox.exec("true", cwd="/nowhere")


def test_output_is_read_as_it_is_written(sandbox: Sandbox) -> None:
    with sandbox.exec_stream(["cat"], stdin=True) as running:
        pieces = iter(running)
        for word in (b"one", b"two"):
            running.send(word)
            piece = next(pieces)
            assert (piece.channel, piece.data) == (Channel.STDOUT, word)
        running.close_stdin()
        assert list(pieces) == [] and running.exit_code == 0
    with sandbox.exec_stream("sleep 60") as running:
        running.signal("TERM")
        assert running.result().signal == 15
    with sandbox.exec_stream("sleep 60") as running:
        running.kill()
        assert running.result().signal == 9


def test_a_background_process_is_listed_listened_to_and_ended(sandbox: Sandbox) -> None:
    started = sandbox.start("echo one; echo two >&2; exec sleep 60", tag="job")
    assert started.tag == "job"
    (listed,) = sandbox.processes.list()
    assert (listed.pid, listed.tag, listed.kind) == (started.pid, "job", ProcessKind.BACKGROUND)
    with sandbox.processes.attach("job") as attached:
        seen = b""
        for piece in attached:
            seen += piece.data
            if len(seen) == 8:
                break
        assert sorted(seen.split()) == [b"one", b"two"]
        sandbox.processes.kill(started.pid, "TERM")
        assert attached.result().signal == 15
    assert sandbox.processes.list() == []
    with sandbox.processes.attach("job", after=4) as attached:
        done = attached.result()
        assert len(done.stdout + done.stderr) == 4
    with pytest.raises(NotFound):
        sandbox.processes.attach("nobody")
    with pytest.raises(InputError, match="is not a signal"):
        sandbox.processes.kill("job", "NOPE")


def test_files(sandbox: Sandbox) -> None:
    files = sandbox.files
    entry = files.write("/a/b.txt", "grüße", mode=0o640)
    assert (entry.name, entry.type, entry.mode, entry.size) == ("b.txt", FileType.FILE, 0o640, 7)
    assert files.read_text("/a/b.txt") == "grüße"
    assert files.read("/a/b.txt", offset=2, length=2) == "ü".encode()
    assert [each.name for each in files.list("/a")] == ["b.txt"]
    assert files.exists("/a") and not files.exists("/a/none")
    files.mkdir("/a/c/d")
    with pytest.raises(Conflict):
        files.mkdir("/a/c/d", exist_ok=False)
    assert files.move("/a/b.txt", "/a/c/b.txt").path == "/a/c/b.txt"
    with pytest.raises(NotFound):
        files.read("/a/b.txt")
    with pytest.raises(BadRequest):
        files.read("/a")
    with pytest.raises(Conflict):
        files.remove("/a")
    files.remove("/a", recursive=True)
    with pytest.raises(NotFound):
        files.stat("/a")
    big = os.urandom(2_000_000)
    files.write("/big", (big[at : at + 65536] for at in range(0, len(big), 65536)))
    assert b"".join(files.stream("/big")) == big


def test_a_directory_goes_there_and_back_with_modes_and_links(sandbox: Sandbox, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "empty").mkdir(parents=True)
    (here / "in").mkdir()
    (here / "in" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (here / "in" / "run.sh").chmod(0o750)
    (here / "in" / "none").write_bytes(b"")
    (here / "link").symlink_to("in/run.sh")
    sandbox.files.upload(here, "/there")
    assert sandbox.exec("cat link && test -x in/run.sh", cwd="/there").stdout == b"#!/bin/sh\n"
    sandbox.files.download("/there", tmp_path / "back")
    back = tmp_path / "back"
    assert (back / "link").readlink() == Path("in/run.sh") and (back / "link").read_bytes() == b"#!/bin/sh\n"
    assert (back / "in" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (back / "empty").is_dir() and (back / "in" / "none").read_bytes() == b""
    assert not list(back.rglob(".*"))
    sandbox.files.download("/there/link", tmp_path / "one")  # who names a link means what it leads to
    assert (tmp_path / "one").read_bytes() == b"#!/bin/sh\n"
    with pytest.raises(LocalStateError, match="cannot read"):
        sandbox.files.upload(tmp_path / "nothing", "/x")
    (here / "in" / "link").symlink_to(os.fsdecode(b"no\xfftext"))
    with pytest.raises(InputError, match=r'"no\\udcfftext" is no UTF-8'):
        sandbox.files.upload(here, "/there")
    with pytest.raises(LocalStateError, match="cannot write"):
        sandbox.files.download("/there/link", tmp_path / "no" / "such" / "place")


def test_a_terminal_is_typed_at_and_read(sandbox: Sandbox, server: SandboxServer) -> None:
    with sandbox.terminal(columns=120, rows=40, env={"TERM": "xterm"}) as terminal:
        screen = server.screen(terminal.tag)
        assert screen.size == (120, 40) and screen.started["envs"] == {"TERM": "xterm"}
        terminal.send("grüße".encode())
        assert terminal.read() == "grüße".encode() and terminal.next == 7
        terminal.resize(100, 30)
        with pytest.raises(InputError, match="0 columns"):
            terminal.resize(0, 30)
        with pytest.raises(TimeoutError):
            terminal.read(timeout_seconds=0.01)
        terminal.send(b"\x04")
        assert terminal.read() == b"" and terminal.exit_code == 7
        assert screen.size == (100, 30)
        with pytest.raises(StateError, match="is over"):
            terminal.send(b"more")


def test_a_terminal_that_was_left_is_found_where_it_was(sandbox: Sandbox, server: SandboxServer) -> None:
    with sandbox.terminal(tag="mine") as terminal:
        terminal.send(b"before")
        assert terminal.read() == b"before"
    server.run(server.screen("mine").write(b" meanwhile"))
    with sandbox.attach_terminal("mine", after=terminal.next) as again:
        assert again.read() == b" meanwhile" and again.lost == 0
    with sandbox.attach_terminal("mine") as all_of_it:
        assert all_of_it.read() == b"before meanwhile"
    with sandbox.attach_terminal("mine", after=None) as from_now_on:
        server.run(server.screen("mine").write(b"now"))
        assert from_now_on.read() == b"now"
    with pytest.raises(NotFound, match="terminal nobody"):
        sandbox.attach_terminal("nobody")


def test_a_lost_connection_costs_a_terminal_no_byte(sandbox: Sandbox, server: SandboxServer) -> None:
    noticed: list[WellheadError | None] = []
    with sandbox.terminal(view={"noticed": noticed.append}) as terminal:
        screen = server.screen(terminal.tag)
        told, seen = b"", b""
        for round in range(4):
            told += (more := b"".join(b"%d line %d\n" % (round, number) for number in range(20_000)))
            server.run(screen.write(more))
            seen += terminal.read()
            server.run(server.cut())  # in the midst of it
            while len(seen) < len(told):
                seen += terminal.read()
        server.run(screen.end(0))
        assert terminal.read() == b"" and seen == told
        assert terminal.lost == 0 and terminal.exit_code == 0 and noticed.count(None) == 4


def test_what_is_gone_is_told(sandbox: Sandbox, server: SandboxServer) -> None:
    server.kept = 100
    with sandbox.terminal() as terminal:
        screen = server.screen(terminal.tag)
        server.run(screen.write(b"x" * 50))
        assert len(terminal.read()) == 50
        server.run(server.cut())
        server.run(screen.write(bytes(range(250))))
        server.run(screen.end(0))
        assert b"".join(terminal) == bytes(range(150, 250)) and terminal.lost == 150


def test_keys_typed_while_the_connection_is_lost_arrive(sandbox: Sandbox, server: SandboxServer) -> None:
    with sandbox.terminal() as terminal:
        server.run(server.cut())
        server.refusal = Refusal(503, "host_unavailable", "its host is away")
        threading.Timer(0.3, lambda: setattr(server, "refusal", None)).start()
        reading = threading.Thread(target=terminal.read)
        reading.start()
        terminal.send(b"typed meanwhile")
        reading.join(20)
        screen = server.screen(terminal.tag)
        assert bytes(screen.typed) == b"typed meanwhile"
        assert screen.sizes == [(80, 24)]  # it is told anew how large it is


def test_a_terminal_whose_sandbox_sleeps_is_not_tried_again(sandbox: Sandbox, server: SandboxServer) -> None:
    with sandbox.terminal() as terminal:
        sandbox.pause()
        server.run(server.cut())
        with pytest.raises(SandboxState, match="paused"):
            terminal.read()


def test_a_terminal_is_not_tried_for_longer_than_wanted(sandbox: Sandbox, server: SandboxServer) -> None:
    with sandbox.terminal(view={"reconnect_seconds": 0}) as terminal:
        server.refusal = Refusal(503, "host_unavailable", "its host is away")
        server.run(server.cut())
        with pytest.raises(WellheadError, match="broke off"):
            terminal.read()
        with pytest.raises(WellheadError):
            terminal.send(b"x")
    server.refusal = None


def test_detaching_ends_who_waits(sandbox: Sandbox, server: SandboxServer) -> None:
    terminal = sandbox.terminal()
    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(terminal.read()))
    reading.start()
    terminal.detach()
    reading.join(20)
    assert read == [b""] and server.screen(terminal.tag).exit is None
    with pytest.raises(StateError, match="is left"):
        terminal.send(b"x")


def test_a_terminal_is_killed(sandbox: Sandbox) -> None:
    with sandbox.terminal() as terminal:
        terminal.kill()
        assert terminal.read() == b"" and terminal.end is not None and terminal.end.status == 137


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(413, "too_large", "above 100 MiB"), TooLarge),
        (Refusal(503, "no_hosts_available", "no room"), Unavailable),
        (Refusal(502, "agent_error", "it broke"), ApiError),
    ],
)
def test_a_refusal_is_the_same_error_in_a_call_and_on_a_websocket(
    client: Client, server: SandboxServer, sandbox: Sandbox, refusal: Refusal, kind: type[ApiError]
) -> None:
    server.refusal = refusal
    for ask in (lambda: sandbox.pause(), lambda: sandbox._viewer(patient=False)):
        with pytest.raises(kind, match=refusal.message) as refused:
            ask()
        assert refused.value.status == refusal.status and refused.value.reason == refusal.code
    server.refusal = None


def test_a_wrong_key_is_told_before_anything_else(served: Served) -> None:
    with Client(f"https://localhost:{served[1]}", "wh_wrong", ca_file=served[2]) as stranger:
        with pytest.raises(Unauthorized):
            stranger.sandboxes.list()
        with pytest.raises(Unauthorized):
            stranger.socket(f"/sandboxes/{new_sandbox_id()}/pty", {}, "wellhead.terminal.1")  # type: ignore[arg-type]  # a plain text


def test_snapshots(client: Client, sandbox: Sandbox) -> None:
    made = sandbox.snapshot("kept")
    assert made.name == "kept" and made in client.snapshots.list()
    with pytest.raises(Conflict, match="taken"):
        client.snapshots.create(sandbox.id, "kept")
    client.snapshots.delete("kept")
    assert [each.type for each in client.snapshots.list()] == [TemplateKind.BASE]
    assert client.snapshots.list(type=TemplateKind.SNAPSHOT) == []


def test_hosts(client: Client) -> None:
    made = client.hosts.create("big-one")
    assert made.token.reveal() == "wht_EXAMPLE" and made.host.status is HostStatus.PENDING
    assert client.hosts.list() == [made.host]
    assert client.hosts.drain(made.host.id).status is HostStatus.DRAINING
    assert client.hosts.update(made.host.id, draining=False).status is HostStatus.ONLINE
    client.hosts.delete(made.host.id)
    with pytest.raises(NotFound):
        client.hosts.get(made.host.id)
