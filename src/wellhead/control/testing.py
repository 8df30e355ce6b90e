"""``/api/v1/testing``: organizations made and ended by others' test suites, where a setting allows it.

Whoever has the secret makes organizations without end, so it is for servers that nobody uses otherwise.
Source: inkbox-tunnels, "2.6 Test-harness endpoints".
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from wellhead.control.access import OtherDoor
from wellhead.control.store.store import Store
from wellhead.model.records import Actor, OrganizationId

ACCOUNTS_MAX = 100


def door(prefix: str, digest: str) -> OtherDoor:
    """``digest``: SHA-256 of the secret, hex."""
    return OtherDoor(f"{prefix}/testing", b"x-interservice-secret", bytes.fromhex(digest))


class NewAccount(BaseModel):
    model_config = ConfigDict(extra="ignore")

    create_api_key: bool = True


@dataclass(frozen=True, slots=True)
class Account:
    """``password`` opens nothing: people do not sign in here."""

    email_address: str
    user_id: str
    org_id: OrganizationId
    password: str = field(repr=False)
    api_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accounts:
    accounts: list[Account]


class OldAccount(BaseModel):
    model_config = ConfigDict(extra="ignore")

    user_id: str
    org_id: str


class OldAccounts(BaseModel):
    model_config = ConfigDict(extra="ignore")

    accounts: list[OldAccount] = Field(max_length=ACCOUNTS_MAX)


@dataclass(frozen=True, slots=True)
class Cleaned:
    organizations: int


def router(store: Store) -> APIRouter:
    routes = APIRouter(prefix="/testing", tags=["testing"])

    @routes.post("/create-test-user-organization", operation_id="create_test_organization")
    async def create_test_organization(new: NewAccount) -> Accounts:
        """Make an organization with an admin key."""
        user = str(uuid.uuid4())
        organization, key = await store.create_organization(_name(user))
        account = Account(
            f"{user}@testing.invalid",
            user,
            organization,
            secrets.token_urlsafe(16),
            key.reveal() if new.create_api_key else None,
        )
        return Accounts([account])

    @routes.post("/cleanup-test-user-organization", operation_id="end_test_organizations")
    async def end_test_organizations(request: Request, old: OldAccounts) -> Cleaned:
        """End the tunnels and the keys of organizations that were made here; others are left alone."""
        by = Actor(address=request.state.address or None)
        ended = [
            await store.ending.end_organization(OrganizationId(account.org_id), _name(account.user_id), by)
            for account in old.accounts
        ]
        return Cleaned(sum(ended))

    return routes


def _name(user: str) -> str:
    """What an organization is called that was made here: by it no other one can be meant."""
    return f"testing {user}"
