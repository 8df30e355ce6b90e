"""A file on its way into a sandbox: multipart as wrenn's SDK sends it, or the bytes alone behind a query.

Nothing of it is held here but the pieces that came before its path was known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from wellhead.errors import HostInvalid, HostTooLarge
from wellhead.host.api.bodies import Members, query_number
from wellhead.host.api.context import Context
from wellhead.host.api.entries import entry_answer
from wellhead.host.api.upload import Upload
from wellhead.host.guest_link import FileWrite, GuestLink
from wellhead.model.sandboxes import SandboxId

EARLY_BYTES = 1024 * 1024  # of a file whose path comes behind it
_AROUND_BYTES = 64 * 1024  # of a multipart body that are not the file's
_MODE_MAX = 0o7777


class Writing:
    """``max_bytes``: of the file."""

    def __init__(self, context: Context, max_bytes: int) -> None:
        self._context = context
        self._max_bytes = max_bytes

    async def answer(self, request: Request) -> Response:
        """PUT: ``path`` in the query and the bytes as body. POST: multipart with ``path`` and ``file``."""
        context = self._context
        sandbox = context.asked(request)
        link = context.link(sandbox)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_bytes + _AROUND_BYTES:
            raise self._too_large()
        body = self._pieces(sandbox, request)
        if request.method == "PUT":
            return entry_answer({"entry": await self._put(request, link, body)})
        await self._post(request, link, body)
        return Response(status_code=204)

    async def _put(self, request: Request, link: GuestLink, body: AsyncIterator[bytes]) -> dict[str, object]:
        asked = Members(request.query_params)
        mode = query_number(request, "mode")
        if mode is not None and mode > _MODE_MAX:
            raise HostInvalid(f"mode is {mode}, not 0 to {_MODE_MAX}")
        async with link.write(asked.path("path"), asked.optional("user"), mode) as file:
            written = 0
            async for piece in body:
                written = await self._send(file, [piece], written)
            return await file.finish()

    async def _post(self, request: Request, link: GuestLink, body: AsyncIterator[bytes]) -> None:
        upload = Upload(request.headers.get("content-type", ""))
        early: list[bytes] = []
        async for data in body:
            early += upload.feed(data)
            if upload.begun and "path" in upload.fields:
                break
            if sum(map(len, early)) > EARLY_BYTES:
                raise HostInvalid(f"the field path must stand before a file of more than {EARLY_BYTES} bytes")
        else:
            missing = "file" if "path" in upload.fields else "path"
            raise HostInvalid(f"the multipart body has no {missing}")
        fields = Members(upload.fields)
        async with link.write(fields.path("path"), fields.optional("user")) as file:
            written = await self._send(file, early, 0)
            async for data in body:
                written = await self._send(file, upload.feed(data), written)
            if not upload.over:
                raise HostInvalid("the multipart body ended before its last boundary")
            await file.finish()

    async def _send(self, file: FileWrite, pieces: list[bytes], written: int) -> int:
        """Pass pieces on; the bytes that are written then."""
        for piece in pieces:
            written += len(piece)
            if written > self._max_bytes:
                raise self._too_large()
            await file.send(piece)
        return written

    async def _pieces(self, sandbox: SandboxId, request: Request) -> AsyncIterator[bytes]:
        taken = 0
        async for piece in request.stream():
            taken += len(piece)
            if taken > self._max_bytes + _AROUND_BYTES:
                raise self._too_large()
            self._context.sandboxes.touch(sandbox)
            yield piece

    def _too_large(self) -> HostTooLarge:
        return HostTooLarge(f"a file of more than {self._max_bytes} bytes")
