"""``sandbox.files`` and ``sandbox.processes``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from wellhead.client import file_calls
from wellhead.client.exec_streams import AsyncExecStream
from wellhead.client.own import AsyncThing
from wellhead.client.sandbox_parts import FileCalls, ProcessCalls, attach_place
from wellhead.client.sandbox_records import FileEntry, FileType
from wellhead.client.talks import EXEC, ExecTalk
from wellhead.client.trees import LINKS_MAX, PIECE, Arrivals, arriving, departures, followed, size_of
from wellhead.errors import NotFound


class AsyncFiles(FileCalls, AsyncThing):
    """``Files``, awaited."""

    async def read(
        self, path: str, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> bytes:
        pieces = self.stream(path, offset=offset, length=length, user=user)
        return b"".join([piece async for piece in pieces])

    async def read_text(self, path: str, encoding: str = "utf-8", *, user: str | None = None) -> str:
        return (await self.read(path, user=user)).decode(encoding)

    async def stream(
        self, path: str, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> AsyncIterator[bytes]:
        call = file_calls.read_bytes(self.id, path, offset=offset, length=length, user=user)
        async with self._line.stream(call) as content:
            async for piece in content:
                yield piece

    async def exists(self, path: str, *, user: str | None = None) -> bool:
        try:
            await self.stat(path, user=user)
        except NotFound:
            return False
        return True

    async def upload(self, local: Path | str, remote: str, *, user: str | None = None) -> None:
        for each in departures(Path(local), remote):
            if each.is_directory:
                await self.mkdir(each.target, user=user)
            elif each.leads_to is not None:
                await self._line.send(file_calls.make_link(self.id, each.leads_to, each.target, user=user))
            else:
                with open(each.source, "rb") as file:  # noqa: ASYNC230  # opening does not wait for a disk
                    size, content = size_of(file), _read(file)
                    call = file_calls.write_file(self.id, each.target, content, mode=each.mode, user=user)
                    await self._line.send(file_calls.of_size(call, size))

    async def download(self, remote: str, local: Path | str, *, user: str | None = None) -> None:
        entry = await self.stat(remote, user=user)
        for _ in range(LINKS_MAX):
            if entry.type is FileType.SYMLINK:  # who names a link means what it leads to
                entry = await self.stat(followed(entry), user=user)
        arrivals = Arrivals(entry, Path(local))
        await self._fetch(arrivals.begin(), user)
        while arrivals.directories:
            path, directory = arrivals.directories.pop()
            await self._fetch(arrivals.found(await self.list(path, user=user), directory), user)
        arrivals.link()

    async def _fetch(self, files: Iterator[tuple[FileEntry, Path]], user: str | None) -> None:
        for entry, target in files:
            with arriving(entry, target) as file:
                async for piece in self.stream(entry.path, user=user):
                    await asyncio.to_thread(file.write, piece)


class AsyncProcesses(ProcessCalls, AsyncThing):
    """``Processes``, awaited."""

    async def attach(self, process: int | str, *, after: int | None = 0) -> AsyncExecStream:
        path, query = attach_place(self.id, process, after)
        return await AsyncExecStream.begin(await self._line.socket(path, query, EXEC), ExecTalk(), None)


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE):
        yield piece
