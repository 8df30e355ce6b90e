"""What is told of a file.

Source: wrenn-sandboxes, "Lifecycle and files API".
"""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import JSONResponse, Response

from wellhead.host.guest_answers import member

_BITS = {"directory": stat.S_IFDIR, "symlink": stat.S_IFLNK, "file": stat.S_IFREG}
_PERMISSIONS = 0o7777


def shown_entry(entry: Mapping[str, object]) -> dict[str, object]:
    """A guest's entry as visitors see it: wrenn's SDK knows three types, whatever else there is is a file."""
    kind = entry.get("type")
    word = kind if isinstance(kind, str) and kind in _BITS else "file"
    found = entry.get("mode")
    mode = found & _PERMISSIONS if isinstance(found, int) else 0
    modified = entry.get("modified_at")
    shown = {name: value for name, value in entry.items() if value is not None} | {
        "type": word,
        "mode": mode,
        "permissions": stat.filemode(_BITS[word] | mode),
        "modified_at": int(modified) if isinstance(modified, int | float) else 0,
    }
    return shown


def entry_answer(answer: Mapping[str, object]) -> Response:
    """The answer that holds one entry."""
    return JSONResponse({"entry": shown_entry(member(answer, "entry"))})


async def entries_answer(pages: AsyncGenerator[list[dict[str, object]], None]) -> Response:
    """The answer that holds a list of them, which may be long: others have a turn behind each page."""
    pieces: list[bytes] = []
    async with aclosing(pages):
        async for page in pages:
            pieces.append(json.dumps([shown_entry(entry) for entry in page])[1:-1].encode())
            await asyncio.sleep(0)
    body = b", ".join(piece for piece in pieces if piece)
    return Response(b'{"entries": [%b]}' % body, media_type="application/json")
