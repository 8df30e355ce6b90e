"""What the host makes of a guest's answers, of its silence, and of its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from pathlib import Path

import pytest
import uvloop

from tests.kit.scripted_guest import Scripted, scripted
from wellhead.errors import (
    HostBusy,
    HostConflict,
    HostError,
    HostForbidden,
    HostFull,
    HostInvalid,
    HostNotFound,
    HostState,
    HostTooLarge,
)
from wellhead.host.guest_link import Command, GuestLink, LinkTerms
from wellhead.host.guest_stream import Exited, Lost, Output
from wellhead.wire.guest import GuestFrame, frame, message, numbered

ENTRY = {"name": "a", "path": "/a", "type": "file", "size": 3}
TRUE = Command(["true"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", HostNotFound),
        ("exists", HostConflict),
        ("invalid", HostInvalid),
        ("forbidden", HostForbidden),
        ("too_large", HostTooLarge),
        ("busy", HostBusy),
        ("no_space", HostFull),
        ("failed", HostError),
        ("a word of a newer guest", HostError),
    ],
)
async def test_what_a_guest_refuses_is_the_error_that_it_stands_for(code: str, kind: type[HostError]) -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(error={"code": code, "message": "because"})

    async with scripted(script) as path:
        with pytest.raises(HostError, match="because") as raised:
            await GuestLink(path).processes()
    assert type(raised.value) is kind


async def test_a_sandbox_without_a_guest_is_one_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(HostState):
        await GuestLink(tmp_path / "guest.sock").ports()


async def test_a_guest_that_says_nothing_is_given_up_at_its_time() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        assert await guest.heard() == (GuestFrame.END, None)

    async with scripted(script) as path:
        with pytest.raises(HostError, match=r"did not answer within 0\.01 s"):
            await GuestLink(path, LinkTerms(answer_seconds=0.01)).ports()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0\0\0\2\0[]",
        b"\0\0\0\2\0{}",
        b"\0\0\0\3\0{,}",
        b"\0\0\0\0\2",
        b"\xff" * 20,
        b'\0\0\0\x0b\0{"ok":null}',
    ],
)
async def test_a_guest_that_breaks_the_protocol_or_leaves_is_an_error(said: bytes) -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.raw(said)

    async with scripted(script) as path:
        with pytest.raises(HostError):
            await GuestLink(path).file_call("stat", path="/a")


async def test_output_that_came_before_the_guest_died_is_told() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(started={"pid": 7, "tag": None})
        guest.write(GuestFrame.OUTPUT, b"last words")

    async with scripted(script) as path:
        stream = await GuestLink(path).run(TRUE)
        assert await stream.told() == [Output(b"last words")]
        with pytest.raises(HostError, match="ended the conversation"):
            await stream.told()


async def test_output_before_a_refusal_is_told_first() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(started={"pid": 7, "tag": None})
        await guest.heard()
        guest.write(GuestFrame.OUTPUT, b"a")
        guest.write(GuestFrame.OUTPUT, b"b")
        guest.say(error={"code": "failed", "message": "no more"})

    async with scripted(script) as path:
        stream = await GuestLink(path).run(TRUE, stdin=True)
        await stream.send(b"go")
        told = await stream.told()
        assert b"".join(item.data for item in told if isinstance(item, Output)) == b"ab"
        with pytest.raises(HostError, match="no more"):
            await stream.told()


async def test_neighbours_of_one_kind_are_told_as_one_and_the_order_stays() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(started={"pid": 7, "tag": "t"})
        await guest.heard()
        for letter in (b"a", b"b"):
            guest.write(GuestFrame.OUTPUT, letter)
        guest.write(GuestFrame.ERRORS, b"!")
        guest.write(GuestFrame.OUTPUT, b"c")
        guest.say(exited={"code": None, "signal": 9, "timed_out": True})

    async with scripted(script) as path:
        stream = await GuestLink(path).run(TRUE, stdin=True)
        assert (stream.pid, stream.tag) == (7, "t")
        await stream.send(b"go")
        told = await stream.told()
        while not isinstance(told[-1], Exited):
            told += await stream.told()
    assert told == [Output(b"ab"), Output(b"!", True), Output(b"c"), Exited(None, 9, True)]


async def test_a_terminals_pieces_are_joined_only_where_nothing_is_between_them() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(attached={"pid": 7, "tag": "t", "next": 5, "lost": 5, "columns": 80, "rows": 24})
        await guest.heard()
        guest.raw(numbered(5, b"ab") + numbered(7, b"c"))
        guest.say(lost=10)
        guest.raw(numbered(18, b"d"))
        guest.say(exited={"code": 0, "signal": None, "timed_out": False})

    async with scripted(script) as path:
        stream = await GuestLink(path).terminal_attach("t", 0)
        assert (stream.next, stream.lost, stream.columns, stream.rows) == (5, 5, 80, 24)
        stream.resize(10, 20)
        told = await stream.told()
        while not isinstance(told[-1], Exited):
            told += await stream.told()
    assert told == [Output(b"abc", False, 5), Lost(10), Output(b"d", False, 18), Exited(0, None, False)]


async def test_a_list_that_comes_in_parts_is_one() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(more={"entries": [ENTRY]})
        guest.say(more={"entries": [ENTRY, ENTRY]})
        guest.say(ok={"entries": []})

    async with scripted(script) as path:
        pages = [page async for page in GuestLink(path).entries("/", None, 1)]
        assert sum(pages, []) == [ENTRY] * 3


async def test_an_endless_list_is_refused_and_let_go_of() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        while True:
            guest.say(more={"entries": [ENTRY] * 1000})
            await guest.drain()

    async with scripted(script) as path:
        with pytest.raises(HostTooLarge, match="more than 100000 entries"):
            [page async for page in GuestLink(path).entries("/", None, 1)]


async def test_a_reader_that_takes_nothing_makes_the_guest_wait() -> None:
    said = 0
    stuck = asyncio.Event()

    async def script(guest: Scripted) -> None:
        nonlocal said
        await guest.heard()
        guest.say(started={"pid": 7, "tag": None})
        while True:
            guest.write(GuestFrame.OUTPUT, bytes(65536))
            said += 65536
            try:
                async with asyncio.timeout(0.2):
                    await guest.drain()
            except TimeoutError:
                stuck.set()
                await guest.drain()

    async with scripted(script) as path:
        stream = await GuestLink(path).run(TRUE)
        await stuck.wait()
        assert said < 4 * 1024 * 1024
        await stream.told()
        stream.close()


async def test_whoever_sends_more_than_the_guest_takes_waits_and_hears_of_its_end() -> None:
    waiting = asyncio.Event()

    async def script(guest: Scripted) -> None:
        await guest.heard()
        guest.say(started={"pid": 7, "tag": None})
        await waiting.wait()

    async with scripted(script) as path:
        stream = await GuestLink(path).run(TRUE, stdin=True)
        sending = asyncio.create_task(stream.send(bytes(8 * 1024 * 1024)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not sending.done()
        waiting.set()
        with pytest.raises(HostError):
            await sending


async def test_a_file_is_read_in_pieces_and_its_failure_midway_is_raised() -> None:
    async def script(guest: Scripted) -> None:
        _, asked = await guest.heard()
        guest.say(ok={"entry": ENTRY})
        guest.write(GuestFrame.OUTPUT, b"abc")
        if asked["path"] == "/good":
            guest.write(GuestFrame.END)
        else:
            guest.say(error={"code": "failed", "message": "the disk broke"})

    async with scripted(script) as path:
        link = GuestLink(path)
        async with link.read("/good", None) as (entry, pieces):
            assert entry == ENTRY
            assert [piece async for piece in pieces] == [b"abc"]
        async with link.read("/bad", None) as (_, pieces):
            with pytest.raises(HostError, match="the disk broke"):
                [piece async for piece in pieces]


async def test_a_write_that_the_guest_refuses_midway_is_told_why() -> None:
    async def script(guest: Scripted) -> None:
        await guest.heard()
        await guest.heard()
        guest.say(error={"code": "no_space", "message": "the disk is full"})

    async with scripted(script) as path:
        async with GuestLink(path).write("/a", None) as file:
            with pytest.raises(HostFull, match="the disk is full"):
                for _ in range(1000):
                    await file.send(bytes(65536))


async def test_a_written_file_is_what_the_guest_says_at_its_end() -> None:
    got = bytearray()

    async def script(guest: Scripted) -> None:
        _, asked = await guest.heard()
        assert asked == {"do": "write", "path": "/a", "user": "me", "mode": 0o600, "size": None}
        while (heard := await guest.heard())[0] is GuestFrame.INPUT:
            got.extend(heard[1])
        assert heard[0] is GuestFrame.END
        guest.say(ok={"entry": ENTRY})

    async with scripted(script) as path:
        async with GuestLink(path).write("/a", "me", 0o600) as file:
            await file.send(bytes(100_000))
            await file.send(b"x")
            assert await file.finish() == ENTRY
    assert bytes(got) == bytes(100_000) + b"x"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_a_guest_said_before_it_closed_is_heard_though_we_wrote_after_that(loop: str) -> None:
    closed = threading.Event()

    def serve(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        accepted.recv(65536)
        started: dict[str, object] = {"pid": 7, "tag": None}
        exited: dict[str, object] = {"code": 3, "signal": None, "timed_out": False}
        accepted.sendall(message({"started": started}))
        accepted.recv(1)
        accepted.sendall(frame(GuestFrame.OUTPUT, b"x" * 50_000) + message({"exited": exited}))
        accepted.close()
        closed.set()

    async def listen(path: Path) -> list[object]:
        stream = await GuestLink(path).run(TRUE, stdin=True)
        await stream.send(b"go")
        closed.wait(10)  # the loop does not read meanwhile
        for _ in range(3):
            with contextlib.suppress(HostError):
                await stream.send(b"too late")
        told: list[object] = []
        while not told or not isinstance(told[-1], Exited):
            told += await stream.told()
        return told

    with tempfile.TemporaryDirectory(prefix="wh") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory) / "s"
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            told = runner.run(listen(path))
        thread.join()
    assert told[-1] == Exited(3, None, False)
    assert sum(len(item.data) for item in told if isinstance(item, Output)) == 50_000
