"""``sandbox.files`` and ``sandbox.processes``, for clients that wait."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import quote

from wellhead.client import file_calls, sandbox_calls
from wellhead.client.exec_streams import ExecStream
from wellhead.client.own import Own, Thing
from wellhead.client.sandbox_calls import item
from wellhead.client.sandbox_records import FileEntry, FileType
from wellhead.client.talks import EXEC, ExecTalk
from wellhead.client.trees import LINKS_MAX, PIECE, Arrivals, arriving, departures, followed, size_of
from wellhead.errors import NotFound


class FileCalls:
    """Told in ``file_calls``."""

    stat = Own(file_calls.stat_file)
    list = Own(file_calls.list_files)
    mkdir = Own(file_calls.make_directory)
    remove = Own(file_calls.remove_file)
    move = Own(file_calls.move_file)
    write = Own(file_calls.write_file)


class ProcessCalls:
    """Told in ``sandbox_calls``."""

    list = Own(sandbox_calls.list_processes)
    kill = Own(sandbox_calls.kill_process)
    start = Own(sandbox_calls.start_process)


def attach_place(sandbox_id: str, process: int | str, after: int | None) -> tuple[str, dict[str, str]]:
    """Path and query of the WebSocket on which a process is listened to."""
    query = {} if after is None else {"after": str(after)}
    return f"{item(sandbox_id)}/processes/{quote(str(process), safe='')}/stream", query


class Files(FileCalls, Thing):
    """Files of a sandbox."""

    def read(
        self, path: str, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> bytes:
        """All of a file, or ``length`` bytes from ``offset``.

        Raises:
            NotFound: no such file.
        """
        return b"".join(self.stream(path, offset=offset, length=length, user=user))

    def read_text(self, path: str, encoding: str = "utf-8", *, user: str | None = None) -> str:
        return self.read(path, user=user).decode(encoding)

    def stream(
        self, path: str, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> Generator[bytes, None, None]:
        """As ``read``, piece by piece, however long it is."""
        call = file_calls.read_bytes(self.id, path, offset=offset, length=length, user=user)
        with self._line.stream(call) as content:
            yield from content

    def exists(self, path: str, *, user: str | None = None) -> bool:
        try:
            self.stat(path, user=user)
        except NotFound:
            return False
        return True

    def upload(self, local: Path | str, remote: str, *, user: str | None = None) -> None:
        """Copy a file, or a directory with all in it, to the path ``remote``; modes and links stay.

        Raises:
            LocalStateError: something cannot be read.
        """
        for each in departures(Path(local), remote):
            if each.is_directory:
                self.mkdir(each.target, user=user)
            elif each.leads_to is not None:
                self._line.send(file_calls.make_link(self.id, each.leads_to, each.target, user=user))
            else:
                with open(each.source, "rb") as file:
                    size, content = size_of(file), iter(lambda: file.read(PIECE), b"")
                    call = file_calls.write_file(self.id, each.target, content, mode=each.mode, user=user)
                    self._line.send(file_calls.of_size(call, size))

    def download(self, remote: str, local: Path | str, *, user: str | None = None) -> None:
        """Copy a file, or a directory with all in it, to the path ``local``; modes and links stay.

        Raises:
            NotFound: nothing is there.
            LocalStateError: something cannot be written.
        """
        entry = self.stat(remote, user=user)
        for _ in range(LINKS_MAX):
            if entry.type is FileType.SYMLINK:  # who names a link means what it leads to
                entry = self.stat(followed(entry), user=user)
        arrivals = Arrivals(entry, Path(local))
        self._fetch(arrivals.begin(), user)
        while arrivals.directories:
            path, directory = arrivals.directories.pop()
            self._fetch(arrivals.found(self.list(path, user=user), directory), user)
        arrivals.link()

    def _fetch(self, files: Iterator[tuple[FileEntry, Path]], user: str | None) -> None:
        for entry, target in files:
            with arriving(entry, target) as file:
                for piece in self.stream(entry.path, user=user):
                    file.write(piece)


class Processes(ProcessCalls, Thing):
    """What was started in a sandbox from outside."""

    def attach(self, process: int | str, *, after: int | None = 0) -> ExecStream:
        """Listen to a background process, by pid or tag: from the byte ``after`` on, None: from now on.

        Raises:
            NotFound: there is none, or it ended more than a minute ago.
        """
        path, query = attach_place(self.id, process, after)
        return ExecStream.begin(self._line.socket(path, query, EXEC), ExecTalk(), None)
