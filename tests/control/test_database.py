from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from wellhead.control.store import Store, database
from wellhead.control.store.database import WAL_BYTES, Database, migration_config
from wellhead.control.store.sandbox_edits import Edit
from wellhead.control.store.tables import AuditRow, Base, OrganizationRow
from wellhead.errors import LocalStateError, Unavailable
from wellhead.model import access
from wellhead.model.records import SERVER, OrganizationId
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.model.snapshot import utc_now
from wellhead.model.visibility import PortAccess, Visibility


async def test_migrations_make_the_tables_that_the_code_describes(file: Path) -> None:
    await (await Store.open(file)).close()
    engine = create_engine(URL.create("sqlite", database=str(file)), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == "0008"
    engine.dispose()


async def test_files_are_0600_whatever_the_umask(file: Path) -> None:
    before = os.umask(0)
    try:
        store = await Store.open(file)
        await store.bootstrap()
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    await store.close()
    assert {"wellhead.db", "wellhead.db-wal", "wellhead.db.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}


async def test_the_database_is_in_wal_mode_and_minds_its_references(file: Path) -> None:
    store = await Store.open(file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await store.close()


async def test_a_second_server_on_the_same_file_is_refused(file: Path) -> None:
    store = await Store.open(file)
    with pytest.raises(LocalStateError, match="in use by another server"):
        await Store.open(file)
    await store.close()
    await (await Store.open(file)).close()


async def test_a_database_of_a_newer_version_is_left_alone(file: Path) -> None:
    await (await Store.open(file)).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LocalStateError, match="newer version"):
        await Store.open(file)


@pytest.fixture
def text_file(file: Path) -> Path:
    file.write_text("something else, long enough to be looked at" * 50)
    return file


@pytest.fixture
def link(file: Path) -> Path:
    file.symlink_to("elsewhere.db")
    return file


async def test_what_is_no_database_is_refused(text_file: Path) -> None:
    with pytest.raises(LocalStateError, match="cannot open the database"):
        await Store.open(text_file)


async def test_a_link_in_place_of_the_database_is_not_followed(link: Path) -> None:
    with pytest.raises(LocalStateError, match="cannot open"):
        await Store.open(link)
    with pytest.raises(FileNotFoundError):
        os.stat(link)


async def test_a_directory_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LocalStateError, match="no such file or directory"):
        await Store.open(tmp_path / "missing" / "wellhead.db")


async def test_a_write_that_fails_is_undone_and_the_next_one_works(file: Path) -> None:
    db = await Database.open(file)
    with pytest.raises(ZeroDivisionError):
        async with db.writing() as session:
            session.add(OrganizationRow(id="1", name="x", created_at=utc_now()))
            await session.flush()
            raise ZeroDivisionError
    async with db.reading() as session:
        assert list(await session.scalars(select(OrganizationRow))) == []
    async with db.writing() as session:
        session.add(OrganizationRow(id="2", name="y", created_at=utc_now()))
    await db.close()


async def test_a_locked_database_is_unavailable_and_says_when_to_ask_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    db = await Database.open(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            async with db.writing() as session:
                session.add(OrganizationRow(id="1", name="x", created_at=utc_now()))
        assert caught.value.status == 503 and caught.value.retry_after_seconds
        async with db.reading() as session:  # readers do not wait for a writer
            assert list(await session.scalars(select(OrganizationRow))) == []
        other.execute("ROLLBACK")
    async with db.writing() as session:
        session.add(OrganizationRow(id="1", name="x", created_at=utc_now()))
    await db.close()


def spoil(file: Path) -> None:
    """What a disk that goes bad may do to every page but the first."""
    with open(file, "r+b") as pages:
        pages.seek(4096)
        pages.write(b"\xff" * (file.stat().st_size - 4096))


async def test_a_damaged_database_is_unavailable_and_said_so_in_the_log(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await (await Database.open(file)).close()
    db = await Database.open(file)
    spoil(file)
    for within in (db.reading, db.writing):
        with pytest.raises(Unavailable):
            async with within() as session:
                await session.scalars(select(OrganizationRow))
    assert "the database is damaged" in caplog.text
    await db.close()


async def test_what_breaks_a_rule_of_the_tables_is_no_outage(file: Path) -> None:
    db = await Database.open(file)
    with pytest.raises(IntegrityError):
        async with db.writing() as session:
            for _ in range(2):
                session.add(OrganizationRow(id="1", name="x", created_at=utc_now()))
                await session.flush()
                session.expunge_all()
    await db.close()


async def test_a_long_read_does_not_leave_a_long_log_behind(file: Path) -> None:
    db = await Database.open(file)
    log = file.with_name(file.name + "-wal")

    async def write(count: int) -> None:
        for _ in range(count):
            async with db.writing() as session:
                entry = {"text": "x" * 200_000}
                session.add(
                    AuditRow(organization_id="o", at=utc_now(), action="x", target_id="t", after=entry)
                )

    async with db.reading() as session:
        await session.scalars(select(OrganizationRow))
        await write(60)
        assert log.stat().st_size > WAL_BYTES
    await write(6)  # one of them begins the log anew, and cuts it
    assert log.stat().st_size <= WAL_BYTES
    await db.close()


async def test_a_database_of_the_first_schema_is_brought_up_with_all_that_is_in_it(file: Path) -> None:
    engine = create_engine(URL.create("sqlite", database=str(file)), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        alembic.command.upgrade(migration_config(connection), "0001")
    engine.dispose()
    key, secret = access.mint(access.API_KEY), access.mint(access.CONNECT_SECRET)
    born = "2026-01-01 00:00:00.000000"
    with closing(sqlite3.connect(file)) as old, old:
        old.execute("INSERT INTO organizations VALUES ('o', 'default', ?)", (born,))
        old.execute(
            "INSERT INTO api_keys VALUES ('k', 'o', ?, ?, ?, '[\"admin\"]', ?, NULL, NULL)",
            (access.handle_of(key), access.digest(key), access.last4(key), born),
        )
        old.execute(
            "INSERT INTO tunnels VALUES ('t', 'o', 'my-agent', 'edge', 'active', ?, 'text', '{\"a\": 1}', ?,"
            " ?, NULL, 0, NULL, NULL, NULL)",
            (access.digest(secret), born, born),
        )
    store = await Store.open(file)
    assert await store.bootstrap() is None
    record = store.directory.key(key)
    assert record is not None and (record.id, record.label) == ("k", "")
    assert (await store.directory.admit("my-agent", secret, "", "")).tunnel.id == "t"
    (row,) = await store.tunnels(record.organization_id)
    assert (row.description, row.metadata_, row.agent_version) == ("text", {"a": 1}, None)
    await store.rotate_secret(record.organization_id, "t")
    assert [entry.action for entry in await store.audit.page(record.organization_id, 9)] == [
        "tunnel.rotate_secret"
    ]
    await store.close()


async def test_sandboxes_from_before_their_ports_had_names_are_private(file: Path) -> None:
    born, sandbox = "2026-01-01 00:00:00.000000", new_sandbox_id()
    engine = create_engine(URL.create("sqlite", database=str(file)), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        alembic.command.upgrade(migration_config(connection), "0007")
    engine.dispose()
    with closing(sqlite3.connect(file)) as old, old:
        old.execute("INSERT INTO organizations VALUES ('o', 'default', ?)", (born,))
        old.execute(
            "INSERT INTO sandboxes VALUES (?, 'o', 'h', 'minimal', 'running', 1, 64, 64, 0, NULL, NULL,"
            " NULL, '{}', ?, NULL, NULL, ?)",
            (sandbox, born, born),
        )
    store = await Store.open(file)
    view = store.directory.sandbox(sandbox)
    assert view is not None and view.access == PortAccess(Visibility.PRIVATE)
    changed = await store.sandboxes.change(
        OrganizationId("o"), sandbox, SERVER, Edit(ports={80: Visibility.TEAM})
    )
    assert changed.port_visibility == {"80": "team"}
    await store.sandboxes.revoke_links(OrganizationId("o"), sandbox, SERVER)
    await store.close()
    again = await Store.open(file)
    view = again.directory.sandbox(sandbox)
    assert view is not None and view.access == PortAccess(ports=((80, Visibility.TEAM),), links_epoch=1)
    await again.close()
