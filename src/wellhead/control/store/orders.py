"""What issuers were asked for: counted, so that we stay below their limits, and put off where they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.database import Database
from wellhead.control.store.duty import JUMP, SteadyClock
from wellhead.control.store.tables import OrderRow, Outcome
from wellhead.errors import RateLimited
from wellhead.logs import Log
from wellhead.model.records import OrganizationId

HOUR, WEEK = timedelta(hours=1), timedelta(weeks=1)
KEPT = timedelta(days=8)
FIRST_PAUSE = {Outcome.REFUSED: timedelta(minutes=2), Outcome.AWAY: timedelta(seconds=5)}
LONGEST_PAUSE = timedelta(hours=6)
_REMEMBERED = 16  # failures in a row: the pause is at its longest before

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Budget:
    """Most orders, of one hostname, one organization and all together; None: as many as there are."""

    hostname_per_hour: int | None = None
    hostname_per_week: int | None = None
    organization_per_week: int | None = None
    per_week: int | None = None


class Orders:
    """An order counts whatever becomes of it, unless its issuer was not reached, or it is a renewal that was
    due: authorities count none that names what it replaces, and a name must not lose its certificate to them.

    Time is the steady clock's: a wall clock that jumps ahead frees no budget. One that was ahead and is put
    right leaves orders that seem to come yet: they count as made now, and ``forget`` dates them so.
    """

    def __init__(self, database: Database, clock: SteadyClock) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> datetime:
        """The time that orders are counted by."""
        return self._clock.now()

    async def begin(
        self,
        hostname: str,
        issuer: str,
        budget: Budget,
        organization_id: OrganizationId | None = None,
        *,
        renewal: bool = False,
    ) -> int:
        """Count an order that is about to be made, and give its number for ``end``.

        Raises:
            RateLimited: a part of the budget is used up, or the hostname's last orders failed.
        """
        now = self._clock.now()
        async with self._database.writing() as session:
            await self._check_pause(session, hostname, issuer, now)
            mine = OrderRow.issuer == issuer
            of_name = (OrderRow.hostname == hostname) & mine
            of_organization = (OrderRow.organization_id == organization_id) & mine
            bounds = [
                ("csr-rate", budget.hostname_per_hour, HOUR, of_name, "this name in an hour"),
                ("issue-budget-name", budget.hostname_per_week, WEEK, of_name, "this name in a week"),
                ("issue-budget", budget.per_week, WEEK, mine, "this server in a week"),
            ]
            if organization_id is not None:
                bounds.append(
                    (
                        "issue-budget-organization",
                        budget.organization_per_week,
                        WEEK,
                        of_organization,
                        "this organization in a week",
                    )
                )
            for reason, most, span, whose, what in bounds:
                if renewal or most is None:
                    continue
                if (free := await _free_at(session, whose, most, span, now)) > now:
                    raise _refused(
                        reason, hostname, f"{most} certificates for {what} are allowed", free - now
                    )
            order = OrderRow(
                at=now,
                hostname=hostname,
                issuer=issuer,
                organization_id=organization_id,
                outcome=Outcome.UNKNOWN,
                renewal=renewal,
            )
            session.add(order)
            await session.flush()
            return order.id

    async def end(self, order: int, outcome: Outcome) -> None:
        """Note what came of an order."""
        async with self._database.writing() as session:
            await session.execute(update(OrderRow).where(OrderRow.id == order).values(outcome=outcome))

    async def forget(self) -> None:
        """Forget orders that no budget counts any more."""
        if (now := self._clock.certain()) is None:
            return
        async with self._database.writing() as session:
            await session.execute(delete(OrderRow).where(OrderRow.at <= now - KEPT))
            await session.execute(update(OrderRow).where(OrderRow.at > now + JUMP).values(at=now))

    async def _check_pause(self, session: AsyncSession, hostname: str, issuer: str, now: datetime) -> None:
        """Two failures in a row make the pause before the next order twice as long as one."""
        query = select(OrderRow).where(OrderRow.hostname == hostname, OrderRow.issuer == issuer)
        last = list(await session.scalars(query.order_by(OrderRow.id.desc()).limit(_REMEMBERED)))
        failures = 0
        for order in last:
            if order.outcome not in FIRST_PAUSE:
                break
            failures += 1
        if failures:
            newest = last[0]
            pause = min(FIRST_PAUSE[newest.outcome] * 2 ** (failures - 1), LONGEST_PAUSE)
            free = min(newest.at, now) + pause
            if free > now:
                raise _refused(
                    "issue-pause",
                    hostname,
                    f"the last {failures} orders for this name failed",
                    free - now,
                )


async def _free_at(
    session: AsyncSession, whose: ColumnElement[bool], most: int, span: timedelta, now: datetime
) -> datetime:
    """When there is room for one more: of the orders in the span, the ``most``-th newest has to grow old."""
    counted = select(OrderRow.at).where(
        whose, OrderRow.at > now - span, OrderRow.outcome != Outcome.AWAY, OrderRow.renewal.is_(False)
    )
    found: Any = await session.scalar(counted.order_by(OrderRow.id.desc()).offset(most - 1).limit(1))
    return now if found is None else min(found, now) + span


def _refused(reason: str, hostname: str, why: str, wait: timedelta) -> RateLimited:
    _log.warning(
        "certificate not ordered", reason=reason, hostname=hostname, wait_seconds=wait.total_seconds()
    )
    return RateLimited(
        429, f"certificate rate limit: {why}", retry_after_seconds=wait.total_seconds(), reason=reason
    )
