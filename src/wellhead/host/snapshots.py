"""Copies of a sandbox's disk, kept as templates."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from wellhead import private
from wellhead.errors import HostConflict
from wellhead.host.entry import Entry
from wellhead.host.runtime.runtime import Runtime, Template
from wellhead.host.space import bytes_on_disk
from wellhead.model.sandboxes import SandboxStatus


class Templates(Protocol):
    """What sandboxes begin as. Its calls wait for the disk: not for a loop's thread."""

    def names(self) -> Sequence[str]:
        """All there are."""

    def get(self, name: str) -> Template:
        """Raises HostNotFound: there is none."""

    def add_snapshot(self, name: str, layer: Path, base: Template) -> object:
        """Keep a directory as a template; it is moved."""

    def remove(self, name: str) -> None:
        """Raises HostNotFound: there is none. HostForbidden: it came with the program."""


class Snapshots:
    def __init__(self, runtime: Runtime, templates: Templates, state: Path) -> None:
        self._runtime = runtime
        self._templates = templates
        self._staging = state / "staging"

    async def check(self, name: str) -> None:
        """
        Raises:
            HostConflict: there is such a template.
        """
        if name in await asyncio.to_thread(self._templates.names):
            raise HostConflict(f"there is a template {name} already")

    async def take(self, entry: Entry, name: str, before: SandboxStatus) -> int:
        """Copy what is now in it; gives the bytes. It stands still meanwhile and then is as ``before``.

        A template of that name is replaced. ``entry.reason`` is set where it did not go on.

        Raises:
            HostError: it could not be copied, or does not go on.
        """
        async with self._still(entry, before):
            return await self._copy(entry, name)

    async def sweep(self) -> None:
        """Take away what a program that ended left half copied."""
        await asyncio.to_thread(shutil.rmtree, self._staging, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _still(self, entry: Entry, before: SandboxStatus) -> AsyncIterator[None]:
        if before is not SandboxStatus.RUNNING:
            yield
            return
        await self._runtime.pause(entry.id)
        try:
            yield
        finally:
            try:
                await self._runtime.resume(entry.id)
            except BaseException as error:
                entry.reason = f"it did not go on after a snapshot: {error}"
                raise

    async def _copy(self, entry: Entry, name: str) -> int:
        target = self._staging / secrets.token_hex(8)
        try:
            await asyncio.to_thread(private.make_directory, self._staging)
            await self._runtime.snapshot(entry.id, target)
            size = await asyncio.to_thread(bytes_on_disk, target)
            if name in await asyncio.to_thread(self._templates.names):
                await asyncio.to_thread(self._templates.remove, name)
            await asyncio.to_thread(self._templates.add_snapshot, name, target, entry.spec.template)
        finally:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        return size
