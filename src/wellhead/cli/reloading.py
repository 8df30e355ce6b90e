"""``wellhead run --reload``: the application in a child process, a new one at each change of a ``*.py`` file.

::

    start a child -> it runs -> a file changes           -> the child leaves -> start a child
                     |  its code does not load: say so, and wait for a change -^
                     '- the server or the command line is wrong at the first start: over

The name is the tunnel's, so the public URL stays. Between two children visitors are told that nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Self

import watchfiles

from wellhead.cli.attending import LinkOptions
from wellhead.cli.exit import ExitCode
from wellhead.cli.output import tell
from wellhead.cli.run import RunOptions
from wellhead.cli.run_child import order
from wellhead.errors import SettingsError
from wellhead.net import loop

STILL_MS = 50  # a file is written in pieces: for so long nothing may have changed
LONGEST_MS = 800  # of a batch of changes
LEAVE_SECONDS = 4.0  # for a child to leave by itself
TERM_SECONDS = 1.0  # and when it was told by a signal
NAMED = 3  # changed files that are named


def run_reloading(options: RunOptions, link: LinkOptions) -> int:
    """Run, and run again, until a signal; gives the exit code.

    Raises:
        SettingsError: the working directory cannot be watched.
    """
    return loop.run(_run(order(options, link), Path.cwd()))


async def _run(told: bytes, directory: Path) -> int:
    stop, over = loop.stop_event(asyncio.get_running_loop()), asyncio.Event()
    changes = Changes()
    watching = asyncio.create_task(_watch(directory, changes, over), name="watch")
    try:
        await asyncio.sleep(0)  # it watches from here on
        code = await _life(told, changes, stop, watching)
        if code is not None and code > ExitCode.FAILED:
            return code  # no change of a file would help
        while not stop.is_set() and code != ExitCode.OK:
            if code is not None:
                tell("the app does not run; waiting for a change of its files")
                await _first(watching, stop.wait(), changes.wait())
            if not stop.is_set():
                tell(f"{changes.names(directory)} changed: starting again")
                code = await _life(told, changes, stop, watching)
        return ExitCode.OK
    finally:
        over.set()
        await asyncio.gather(watching, return_exceptions=True)


async def _life(
    told: bytes, changes: Changes, stop: asyncio.Event, watching: asyncio.Task[None]
) -> int | None:
    """One child's; its exit code where it ended by itself."""
    changes.forget()
    async with await Child.start(told) as child:
        await _first(watching, child.process.wait(), stop.wait(), changes.wait())
        return child.process.returncode


async def _first(watching: asyncio.Task[None], *waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is done.

    Raises:
        SettingsError: the files cannot be watched.
    """
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait([watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Child:
    """The application's process. It leaves when its pipe ends: when it is to, and when we are gone."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self.process = process
        self._pipe = pipe

    @classmethod
    async def start(cls, told: bytes) -> Child:
        """Start one and tell it what to do."""
        reader, writer = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                # Without the working directory on its path: a file there must not stand for a library's.
                *(sys.executable, "-P", "-m", "wellhead.cli.run_child", str(reader)),
                pass_fds=(reader,),
            )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        with contextlib.suppress(BrokenPipeError):
            os.write(writer, told)
        return cls(process, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        os.close(self._pipe)
        for seconds, call in ((LEAVE_SECONDS, self.process.terminate), (TERM_SECONDS, self.process.kill)):
            try:
                async with asyncio.timeout(seconds):
                    await self.process.wait()
                    return
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    call()
        await self.process.wait()


class Changes:
    """Files that are not any more what they were."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._contents: dict[str, bytes] = {}
        self._some = asyncio.Event()

    def note(self, paths: Iterable[str]) -> None:
        """Some were written to; one that came out as it was has not changed."""
        for path in paths:
            content = _digest(path)
            if self._contents.get(path) != content:
                self._contents[path] = content
                self._paths.add(path)
                self._some.set()

    def forget(self) -> None:
        """Whoever starts now reads them as they are."""
        self._paths.clear()
        self._some.clear()

    async def wait(self) -> None:
        """Until there are some."""
        await self._some.wait()

    def names(self, directory: Path) -> str:
        """For a person: ``app.py, a/b.py and 3 more``."""
        names = sorted(os.path.relpath(path, directory) for path in self._paths)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


def _digest(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b""  # gone


async def _watch(directory: Path, changes: Changes, over: asyncio.Event) -> None:
    """
    Raises:
        SettingsError: the system does not let us.
    """
    wanted = watchfiles.PythonFilter()
    try:
        async for batch in watchfiles.awatch(
            directory,
            watch_filter=wanted,
            debounce=LONGEST_MS,
            step=STILL_MS,
            stop_event=over,
            ignore_permission_denied=True,
        ):
            changes.note(path for _, path in batch)
    except (OSError, RuntimeError) as error:
        failed = SettingsError(f"{directory} cannot be watched for changes: {error}")
        failed.add_note("WATCHFILES_FORCE_POLLING=1 looks at the files again and again instead")
        raise failed from error
