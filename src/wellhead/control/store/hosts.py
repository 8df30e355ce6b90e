"""Hosts' records: how they come, by a token that is good once, and what is known of each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import audit
from wellhead.control.store.audit import Target
from wellhead.control.store.database import Database
from wellhead.control.store.keys import Keys
from wellhead.control.store.rows import check_room, count
from wellhead.control.store.sandbox_tables import HostRow, HostTokenRow
from wellhead.control.store.tables import OrganizationRow
from wellhead.errors import NotFound, Unauthorized
from wellhead.logs import Log
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import AGENT_MAX, Actor, OrganizationId
from wellhead.model.sandboxes import HostId, HostStatus, HostView, new_host_id
from wellhead.model.snapshot import Snapshot
from wellhead.model.text import escape

TOKEN_KEPT = timedelta(hours=1)
TOKEN_BYTES = 32  # random ones

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a host says of itself when it joins and with each report: what it has for sandboxes.

    CPUs, MiB, MiB. ``sandboxes_max`` None: as many as the rest allows. ``agent``: its program.
    """

    vcpus: float
    memory_mb: int
    disk_mb: int
    templates: Sequence[str]
    sandboxes_max: int | None = None
    agent: str = ""


class Hosts:
    """Of a host of another organization it says what it says of none."""

    def __init__(
        self, database: Database, directory: Snapshot, keys: Keys, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._directory = directory
        self._keys = keys
        self._clock = clock

    async def load(self, session: AsyncSession) -> None:
        """Tell the snapshot of every host that has come."""
        for row in await session.scalars(select(HostRow)):
            self._put(row)

    async def all(self) -> list[HostRow]:
        """Those of every organization that have come."""
        async with self._database.reading() as session:
            return list(await session.scalars(select(HostRow).where(HostRow.status != HostStatus.PENDING)))

    async def page(self, organization_id: OrganizationId) -> list[HostRow]:
        """The organization's, oldest first."""
        query = _of(organization_id).order_by(HostRow.created_at, HostRow.id)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def one(self, organization_id: OrganizationId, host_id: str) -> HostRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, host_id)

    async def create(
        self, organization_id: OrganizationId, name: str | None, most: int | None, by: Actor
    ) -> tuple[HostRow, Secret]:
        """A host that is yet to come, and the token by which it does, good once, for TOKEN_KEPT.

        Raises:
            RateLimited: the organization has as many as it may.
        """
        now, token = self._clock(), Secret(secrets.token_hex(TOKEN_BYTES))
        row = _pending(organization_id, name, now)
        async with self._database.writing() as session:
            if most is not None:
                there = await count(session, _of(organization_id))
                check_room("hosts", there, most, "hosts_per_organization: delete some", "api-hosts")
            session.add(row)
            await session.flush()
            session.add(_token_row(token, row, now))
            _note(session, row, now, by, "host.create", None, {"name": row.name})
        self._put(row)
        return row, token

    async def offer(self, name: str) -> Secret:
        """A fresh token for the first organization's host of this name that is yet to come, made if need be.

        For the server's own machine, whose owner asked for it on the command line.
        """
        now, token = self._clock(), Secret(secrets.token_hex(TOKEN_BYTES))
        async with self._database.writing() as session:
            first = await session.scalar(
                select(OrganizationRow.id).order_by(OrganizationRow.created_at, OrganizationRow.id).limit(1)
            )
            organization_id = OrganizationId(first or "")
            query = _of(organization_id).where(HostRow.name == name, HostRow.status == HostStatus.PENDING)
            if (row := await session.scalar(query.limit(1))) is None:
                row = _pending(organization_id, name, now)
                session.add(row)
                await session.flush()
                _note(session, row, now, Actor(), "host.create", None, {"name": name})
            await session.execute(delete(HostTokenRow).where(HostTokenRow.host_id == row.id))
            session.add(_token_row(token, row, now))
        self._put(row)
        return token

    async def join(
        self,
        token: Secret,
        name: str | None,
        machine_name: str | None,
        runtime: str,
        machine: Machine,
        address: str,
    ) -> tuple[HostRow, Secret]:
        """Take in a host by its token, which is used up; its key is nowhere but in the answer.

        ``machine_name`` is for a record that has no name.

        Raises:
            Unauthorized: the token is not known, was used, or is over.
        """
        now = self._clock()
        async with self._database.writing() as session:
            found = await session.get(HostTokenRow, access.digest(token))
            if found is None or found.expires_at <= now:
                raise Unauthorized(401, "the token is not known, was used, or is over")
            row = await session.get_one(HostRow, found.host_id)
            await session.delete(found)
            row.name = name or (machine_name if row.name == row.id else None) or row.name
            row.runtime, row.address = runtime, address or None
            _take(row, machine)
            row.status, row.updated_at, row.last_seen_at = HostStatus.OFFLINE, now, now
            by = Actor(address=address or None)
            organization_id = OrganizationId(row.organization_id)
            key, secret = self._keys.add_of_host(session, organization_id, HostId(row.id), row.name, by)
            row.key_id = key.id
            facts = {"name": row.name, "runtime": runtime, "key_id": key.id}
            _note(session, row, now, by, "host.join", None, facts)
        self._keys.begin(key)
        self._put(row)
        _log.info("host joined", host=row.id, name=row.name, runtime=runtime)
        return row, secret

    async def change(
        self,
        organization_id: OrganizationId,
        host_id: str,
        by: Actor,
        name: str | None = None,
        draining: bool | None = None,
    ) -> HostRow:
        """Change what its owner may; None stays.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.writing() as session:
            row = await _one(session, organization_id, host_id)
            before: dict[str, object] = {"name": row.name, "draining": row.draining}
            row.name = row.name if name is None else name
            row.draining = row.draining if draining is None else draining
            after: dict[str, object] = {"name": row.name, "draining": row.draining}
            if before != after:
                row.updated_at = self._clock()
                _note(session, row, row.updated_at, by, "host.update", before, after)
        self._put(row)
        return row

    async def delete(self, organization_id: OrganizationId, host_id: str, by: Actor) -> HostRow:
        """Forget a host: its key is nobody's, and its sessions end.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.writing() as session:
            row, now = await _one(session, organization_id, host_id), self._clock()
            await session.execute(delete(HostTokenRow).where(HostTokenRow.host_id == row.id))
            keys = await self._keys.revoke_of_host(session, organization_id, row.id, now, by)
            _note(session, row, now, by, "host.delete", {"name": row.name}, None)
            await session.delete(row)
        self._keys.forget(keys)
        self._directory.drop_host(HostId(row.id))
        _log.info("host deleted", host=row.id, name=row.name)
        return row

    async def seen(self, host_id: HostId, machine: Machine, boot: str, address: str) -> HostRow | None:
        """Note a host's report; None: there is no such host."""
        async with self._database.writing() as session:
            if (row := await session.get(HostRow, host_id)) is not None:
                row.boot, row.address, row.last_seen_at = boot, address or row.address, self._clock()
                _take(row, machine)
        return row

    async def turn(self, host_id: HostId, to: HostStatus) -> HostRow | None:
        """Give a host another status; None: it has it, or there is no such host."""
        async with self._database.writing() as session:
            row = await session.get(HostRow, host_id)
            if row is None or row.status is to:
                return None
            before, row.status, row.updated_at = row.status, to, self._clock()
        self._put(row)
        _log.info("host status", host=row.id, name=row.name, before=before.value, status=to.value)
        return row

    async def forget_tokens(self) -> None:
        """Forget those that are over."""
        over = HostTokenRow.expires_at <= self._clock()
        async with self._database.reading() as session:
            if await session.scalar(select(HostTokenRow.host_id).where(over).limit(1)) is None:
                return
        async with self._database.writing() as session:
            await session.execute(delete(HostTokenRow).where(over))

    def _put(self, row: HostRow) -> None:
        if row.status is not HostStatus.PENDING:
            organization_id = OrganizationId(row.organization_id)
            self._directory.put_host(HostView(HostId(row.id), organization_id, status_of(row)))


def _pending(organization_id: OrganizationId, name: str | None, now: datetime) -> HostRow:
    host_id = new_host_id()
    return HostRow(
        id=host_id,
        organization_id=organization_id,
        name=name or host_id,
        status=HostStatus.PENDING,
        draining=False,
        templates=[],
        created_at=now,
        updated_at=now,
    )


def _token_row(token: Secret, row: HostRow, now: datetime) -> HostTokenRow:
    return HostTokenRow(
        digest=access.digest(token), host_id=row.id, created_at=now, expires_at=now + TOKEN_KEPT
    )


def status_of(row: HostRow) -> HostStatus:
    """As others see it: a host that is there and takes nothing new is draining."""
    return HostStatus.DRAINING if row.status is HostStatus.ONLINE and row.draining else row.status


async def online_hosts(session: AsyncSession, organization_id: OrganizationId) -> Sequence[HostRow]:
    """Those of an organization that are there and take sandboxes."""
    query = _of(organization_id).where(HostRow.status == HostStatus.ONLINE, HostRow.draining.is_(False))
    return (await session.scalars(query)).all()


def _of(organization_id: OrganizationId) -> Select[HostRow]:
    return select(HostRow).where(HostRow.organization_id == organization_id)


async def _one(session: AsyncSession, organization_id: OrganizationId, host_id: str) -> HostRow:
    row = await session.scalar(_of(organization_id).where(HostRow.id == host_id))
    if row is None:
        raise NotFound(404, "no such host")
    return row


def _take(row: HostRow, machine: Machine) -> None:
    row.vcpus, row.memory_mb, row.disk_mb = machine.vcpus, machine.memory_mb, machine.disk_mb
    row.sandboxes_max, row.templates = machine.sandboxes_max, list(machine.templates)
    row.agent = escape(machine.agent)[:AGENT_MAX] or row.agent


def _note(
    session: AsyncSession,
    row: HostRow,
    at: datetime,
    by: Actor,
    action: str,
    before: audit.Fields | None,
    after: audit.Fields | None,
) -> None:
    audit.note(session, row.organization_id, at, by, action, Target(row.id, row.name), before, after)
