"""TXT records in Amazon Route 53: written, waited for until they are INSYNC, and taken back.

Credentials and region are found by ``boto3`` as every program of Amazon's finds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from wellhead.control.threads import Threads
from wellhead.errors import IssuerError, SettingsError
from wellhead.model.text import escape

TTL: Final = 60  # seconds
POLL_SECONDS: Final = (
    0.5,
    5.0,
)  # first and longest pause between two looks; Route 53 allows 5 calls a second

T = TypeVar("T")


class Route53:
    """Records; ``zone`` None: the innermost public hosted zone of the account that holds the name.

    Raises:
        SettingsError: ``boto3`` is not installed, or has no region or credentials to begin with.
    """

    def __init__(self, zone: str | None, wait_seconds: float, *, endpoint: str | None = None) -> None:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise SettingsError(
                "dns_provider: route53 needs boto3, run: pip install 'wellhead[route53]'"
            ) from error
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        try:
            # Route 53 is in no region; its client wants to be told one all the same.
            self._client: Any = boto3.client("route53", region_name="us-east-1", endpoint_url=endpoint)
        except self._errors as error:
            raise SettingsError(f"dns_provider: route53: {error}") from error
        self._zone = zone
        self._wait = wait_seconds
        self._zones: dict[str, str] = {}  # of names that have records of ours
        self._turn = asyncio.Lock()  # a record set is read, changed and written as a whole
        self._threads = Threads(1, "route53")

    async def add(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        async with self._turn:
            zone = await self._zone_of(name)
            values = await self._values(zone, name)
            changed = await self._change(zone, "UPSERT", name, [*values, *({value} - set(values))])
        try:
            async with asyncio.timeout(self._wait):
                await self._in_sync(changed)
        except TimeoutError as error:
            raise IssuerError(
                f"Route 53 has not put the record {name} everywhere after {self._wait:g} s", reason="dns-wait"
            ) from error

    async def remove(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        async with self._turn:
            zone = await self._zone_of(name)
            values = await self._values(zone, name)
            left = [other for other in values if other != value]
            if left and left != values:
                await self._change(zone, "UPSERT", name, left)
            elif values and not left:
                await self._change(zone, "DELETE", name, values)
            if not left:
                self._zones.pop(name, None)

    async def _zone_of(self, name: str) -> str:
        if name not in self._zones:
            found = await self._call("list_hosted_zones", self._public_zones)
            fitting = [zone for zone in found if name == zone or name.endswith("." + zone)]
            if self._zone is not None:
                fitting = [zone for zone in fitting if zone == self._zone]
            if not fitting:
                raise IssuerError(
                    f"Route 53 has no public hosted zone {self._zone or 'that holds'} for {name}",
                    reason="dns",
                )
            self._zones[name] = found[max(fitting, key=len)]
        return self._zones[name]

    def _public_zones(self) -> dict[str, str]:
        """Name without the last dot -> id."""
        pages = self._client.get_paginator("list_hosted_zones").paginate()
        return {
            str(zone["Name"]).rstrip("."): str(zone["Id"])
            for page in pages
            for zone in page["HostedZones"]
            if not zone["Config"]["PrivateZone"]
        }

    async def _values(self, zone: str, name: str) -> list[str]:
        found = await self._call(
            "list_resource_record_sets",
            lambda: self._client.list_resource_record_sets(
                HostedZoneId=zone, StartRecordName=name, StartRecordType="TXT", MaxItems="1"
            ),
        )
        return [
            str(record["Value"]).strip('"')
            for records in found["ResourceRecordSets"]
            if records["Type"] == "TXT" and str(records["Name"]).rstrip(".") == name
            for record in records["ResourceRecords"]
        ]

    async def _change(self, zone: str, action: str, name: str, values: Sequence[str]) -> str:
        records = {
            "Name": name,
            "Type": "TXT",
            "TTL": TTL,
            "ResourceRecords": [{"Value": f'"{value}"'} for value in values],
        }
        changed = await self._call(
            f"{action} {name}",
            lambda: self._client.change_resource_record_sets(
                HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": records}]}
            ),
        )
        return str(changed["ChangeInfo"]["Id"])

    async def _in_sync(self, change: str) -> None:
        pause = POLL_SECONDS[0]
        while True:
            found = await self._call("get_change", lambda: self._client.get_change(Id=change))
            if found["ChangeInfo"]["Status"] == "INSYNC":
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS[1])

    async def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return await self._threads.run(call)
        except self._errors as error:
            raise IssuerError(f"Route 53 refused {what}: {escape(str(error))}", reason="dns") from error
