"""The SQLite file: made 0600, held by one process, brought to the newest schema, opened in WAL mode."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import alembic.command
import alembic.config
import alembic.util
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from wellhead.errors import LocalStateError, Unavailable
from wellhead.logs import Log

BUSY_SECONDS = 4  # how long a transaction waits for its turn and for a lock that another program holds
WAL_BYTES = 8 << 20  # the write-ahead log is cut to this when a long read let it grow
_READERS = 4  # connections; each is a thread
_log = Log("wellhead.control")
_MIGRATIONS = Path(__file__).parent / "migrations"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Database:
    """Sessions for reading and for writing. Writers stand in line; readers never wait for them."""

    def __init__(self, path: Path, lock: int) -> None:
        self._lock = lock
        self._turn = asyncio.Lock()
        # Parameters hold digests and users' texts: they stay out of error messages, and so out of logs.
        self._engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(path)),
            hide_parameters=True,
            pool_size=_READERS,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
        )
        event.listen(self._engine.sync_engine, "connect", _on_connect)
        event.listen(self._engine.sync_engine, "begin", _on_begin)
        self._read = async_sessionmaker(self._engine, expire_on_commit=False)
        self._write = async_sessionmaker(self._engine.execution_options(writes=True), expire_on_commit=False)

    @classmethod
    async def open(cls, path: Path) -> Database:
        """
        Raises:
            LocalStateError: another process has it open, it cannot be opened, is no database, or was written
                by a newer Wellhead.
        """
        lock = await asyncio.to_thread(_prepare, path)
        return cls(path, lock)

    async def close(self) -> None:
        await self._engine.dispose()
        os.close(self._lock)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """One consistent view.

        Raises:
            Unavailable: the database stayed locked, or is out of order.
        """
        with _unavailable():
            async with self._read() as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """One transaction: durable when the block ends, undone when it raises.

        Raises:
            Unavailable: the database stayed locked for BUSY_SECONDS, its disk is full, or it is out of order.
        """
        with _unavailable():
            loop = asyncio.get_running_loop()
            deadline = loop.time() + BUSY_SECONDS
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
            try:
                async with self._write() as session, session.begin():
                    # What the turn took is not waited for again at the file's lock.
                    left = max(1, int((deadline - loop.time()) * 1000))
                    await session.connection(execution_options={"busy_milliseconds": left})
                    yield session
            finally:
                self._turn.release()


@contextmanager
def _unavailable() -> Iterator[None]:
    """Maps what SQLite says when it cannot serve to the answer a caller understands."""
    try:
        yield
    except (OperationalError, PoolTimeout, TimeoutError) as error:
        raise _no_answer() from error
    except DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:  # a broken rule, or a mistake of ours
            raise
        _log.error("the database is damaged", error=error)
        raise _no_answer() from error


def _no_answer() -> Unavailable:
    return Unavailable(503, "the database does not answer, try again", retry_after_seconds=1)


def _prepare(path: Path) -> int:
    lock = _hold(path)
    try:
        os.close(_create(path))
        _migrate(path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _hold(path: Path) -> int:
    # Records are also kept in memory, so a second writer would be answered from stale ones.
    number = _create(path.with_name(path.name + ".lock"))
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(number)
        raise LocalStateError(f"the database {path} is in use by another server") from error
    return number


def _create(path: Path) -> int:
    # SQLite would make it with the umask's mode; its -wal and -shm files take the mode of the database.
    try:
        number = os.open(path, _OPEN, 0o600)
        os.fchmod(number, 0o600)
    except OSError as error:
        raise LocalStateError(f"cannot open {path}: {(error.strerror or str(error)).lower()}") from error
    return number


def _migrate(path: Path) -> None:
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        with engine.execution_options(writes=True).connect() as connection, connection.begin():
            alembic.command.upgrade(migration_config(connection), "head")
    except alembic.util.CommandError as error:
        raise LocalStateError(f"the database {path} was written by a newer version: {error}") from error
    except DatabaseError as error:
        raise LocalStateError(f"cannot open the database {path}: {error.orig}") from error
    finally:
        engine.dispose()


def migration_config(connection: Connection) -> alembic.config.Config:
    """Alembic's settings for the scripts inside this package."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _on_connect(connection: DBAPIConnection, record: object) -> None:
    connection.isolation_level = None  # transactions begin in _on_begin, not where sqlite3 guesses
    cursor = connection.cursor()
    # FULL: an acknowledged write outlives a power cut. Writes are rare; requests never wait for one.
    for pragma in (
        f"busy_timeout = {int(BUSY_SECONDS * 1000)}",
        "journal_mode = WAL",
        f"journal_size_limit = {WAL_BYTES}",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A writer takes the lock at once: taking it after a read can fail without waiting.
    options = connection.get_execution_options()
    busy = int(options.get("busy_milliseconds", BUSY_SECONDS * 1000))
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {busy}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", False) else "BEGIN")
