"""One output and those who follow it."""

from __future__ import annotations

import asyncio

from wellhead.guest.output import Output, Viewer
from wellhead.guest.ring import MARKS_MAX, Piece


async def _data(viewer: Viewer) -> bytes:
    piece = await viewer.next()
    assert isinstance(piece, Piece)
    return piece.data


async def test_every_viewer_sees_all_that_comes_after_its_place() -> None:
    output = Output(100, ahead=50)
    output.append(b"before")
    everything, news = output.view(0, paces=False), output.view(None, paces=False)
    output.append(b"after")
    assert await _data(everything) == b"beforeafter"
    assert await _data(news) == b"after"


async def test_a_viewer_waits_for_what_comes_and_hears_of_the_end() -> None:
    output = Output(100, ahead=50)
    viewer = output.view(0, paces=False)
    waiting = asyncio.ensure_future(_data(viewer))
    await asyncio.sleep(0)
    output.append(b"x")
    assert await waiting == b"x"
    ended = asyncio.ensure_future(viewer.next())
    await asyncio.sleep(0)
    output.end()
    assert await ended is None
    assert await viewer.next() is None


async def test_who_asks_for_what_is_gone_is_told_how_much() -> None:
    output = Output(10, ahead=5)
    output.append(bytes(25))
    viewer = output.view(3, paces=False)
    assert (viewer.at, viewer.missed) == (15, 12)
    assert len(await _data(viewer)) == 10


async def test_who_is_overrun_is_told_how_much_and_goes_on() -> None:
    output = Output(10, ahead=5)
    viewer = output.view(0, paces=False)
    output.append(b"0123")
    assert await _data(viewer) == b"0123"
    output.append(b"4567890123456789")
    assert await viewer.next() == 6
    assert await _data(viewer) == b"0123456789"


def _paced(viewers: int = 1, patience: float | None = None) -> tuple[Output, list[Viewer], list[int]]:
    output = Output(100, ahead=10, patience_seconds=patience)
    room: list[int] = []
    output.on_room = lambda: room.append(output.ring.end)  # where the process was when it was let go on
    return output, [output.view(0, paces=True) for _ in range(viewers)], room


async def test_the_fastest_viewer_sets_the_pace() -> None:
    output, (fast, slow), room = _paced(2)
    output.append(bytes(10))
    assert output.is_full()
    await fast.next()
    assert not output.is_full()
    assert room == [10]
    await slow.next()
    assert room == [10]


async def test_the_last_viewer_to_leave_lets_the_process_run() -> None:
    output, (viewer,), room = _paced()
    output.append(bytes(10))
    assert output.is_full()
    viewer.leave()
    assert not output.is_full()
    assert room == [10]


async def test_without_viewers_nothing_is_ever_full() -> None:
    output, (viewer,), _ = _paced()
    viewer.leave()
    output.append(bytes(1000))
    assert not output.is_full()


async def test_a_viewer_that_takes_nothing_holds_nobody_up_for_longer_than_its_time() -> None:
    output, (viewer,), _ = _paced(patience=0.0)
    let_go = asyncio.Event()
    output.on_room = let_go.set
    output.append(bytes(10))
    assert output.is_full()
    async with asyncio.timeout(10):
        await let_go.wait()
    output.append(bytes(200))
    assert not output.is_full()
    assert await viewer.next() == 110
    await viewer.next()
    output.append(bytes(10))
    assert output.is_full()  # it takes things again, so it is waited for again


async def test_many_changes_of_channel_are_as_full_as_many_bytes() -> None:
    output = Output(1 << 20, ahead=1 << 19)
    viewer = output.view(0, paces=True)
    seen = 0
    for number in range(MARKS_MAX * 3):
        if output.is_full():
            while viewer.at < output.ring.end:
                piece = await viewer.next()
                assert isinstance(piece, Piece)
                seen += len(piece.data)
        output.append(b"x", number % 2)
    assert seen > MARKS_MAX
    assert output.ring.start <= viewer.at
