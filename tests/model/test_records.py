from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from wellhead.model.records import (
    TRANSITIONS,
    ApiKey,
    KeyId,
    OrganizationId,
    TunnelStatus,
    may_become,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_every_status_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(TunnelStatus)


def test_deleted_is_the_end_and_reached_from_everywhere() -> None:
    assert TRANSITIONS[TunnelStatus.DELETED] == frozenset()
    ways = {status for status in TunnelStatus if may_become(status, TunnelStatus.DELETED)}
    assert ways == set(TunnelStatus) - {TunnelStatus.DELETED}


@pytest.mark.parametrize("status", list(TunnelStatus))
def test_staying_is_no_transition(status: TunnelStatus) -> None:
    assert not may_become(status, status)


def test_pending_removal_is_called_as_the_reference_calls_it_on_the_wire() -> None:
    assert TunnelStatus("delete_pending") is TunnelStatus.PENDING_REMOVAL


def test_a_key_is_live_until_it_expires_or_is_revoked() -> None:
    def key(expires_at: datetime | None = None, revoked_at: datetime | None = None) -> ApiKey:
        return ApiKey(KeyId("k"), OrganizationId("o"), "abcd", (), NOW, expires_at, revoked_at)

    assert key().live(NOW)
    assert key(expires_at=NOW + timedelta(seconds=1)).live(NOW)
    assert not key(expires_at=NOW).live(NOW)
    assert not key(revoked_at=NOW).live(NOW)
