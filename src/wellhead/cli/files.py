"""A directory's files for visitors, and a page for a directory without an ``index.html``.

Never outside of it, by ``..`` or by a link; nothing whose name begins with a dot, unless that is wanted.
Ranges (RFC 9110 section 14), ``ETag`` and 304 (section 13), HEAD and content types are Starlette's.
"""

from __future__ import annotations

import html
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from wellhead.cli.exchange_lines import size

MAX_LISTED = 10_000  # entries of a page

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark }}
td, th {{ padding: 0 1.5rem 0 0; text-align: left; overflow-wrap: anywhere }}
td + td {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
</style>
<h1>{title}</h1>
<table>
<thead><tr><th scope="col">name<th scope="col">size<th scope="col">changed (UTC)</thead>
<tbody>
{rows}
</tbody>
</table>
{more}</html>
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-cache",
}


def files_app(directory: Path, *, hidden: bool = False) -> Starlette:
    """An ASGI application that serves ``directory``; with ``hidden`` names that begin with a dot as well."""
    return Starlette(routes=[Mount("/", _Files(directory, hidden=hidden))])


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    is_file: bool  # directories stand first
    name: str
    size: int
    changed: float  # Unix time

    def row(self) -> str:
        mark = "" if self.is_file else "/"
        link = f"./{quote(os.fsencode(self.name))}{mark}"
        shown = html.escape(os.fsencode(self.name).decode("utf-8", "replace") + mark)
        when = f"{datetime.fromtimestamp(self.changed, UTC):%Y-%m-%d %H:%M}"
        return f'<tr><td><a href="{link}">{shown}</a><td>{size(self.size) if self.is_file else ""}<td>{when}'


class _Files(StaticFiles):
    def __init__(self, directory: Path, *, hidden: bool) -> None:
        super().__init__(directory=directory, html=True)
        self._root = os.path.realpath(directory)
        self._hidden = hidden

    async def get_response(self, path: str, scope: Any) -> Response:
        if scope["method"] in ("GET", "HEAD") and await anyio.to_thread.run_sync(self._lists, path):
            if scope["path"].endswith("/"):
                return await anyio.to_thread.run_sync(self._listing, path, scope["path"])
            url = URL(scope=scope)
            return RedirectResponse(url.replace(path=f"{url.path}/"))
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code == 401:  # a file that we may not read: no credential would help
                raise HTTPException(403) from None
            raise
        except OSError as error:  # a loop of links, a name that no file can have
            raise HTTPException(404) from error

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        full, found = super().lookup_path(path)
        if found is None or self._hidden:
            return full, found
        inside = os.path.relpath(full, self._root)  # a link inside may lead to what is hidden
        if _is_hidden(path) or _is_hidden(inside):
            return "", None
        return full, found

    def _lists(self, path: str) -> bool:
        try:
            _, found = self.lookup_path(path)
            _, index = self.lookup_path(os.path.join(path, "index.html"))
        except (OSError, ValueError):
            return False
        return found is not None and stat.S_ISDIR(found.st_mode) and index is None

    def _listing(self, path: str, shown: str) -> Response:
        full, _ = self.lookup_path(path)
        try:
            entries = list(itertools.islice(self._entries(path, full), MAX_LISTED + 1))
        except PermissionError:
            raise HTTPException(403) from None
        rows = [entry.row() for entry in sorted(entries[:MAX_LISTED])]
        if path not in ("", "."):
            rows.insert(0, '<tr><td><a href="../">../</a><td><td>')
        more = "<p>and more, which are not listed</p>\n" if len(entries) > MAX_LISTED else ""
        page = _PAGE.format(title=html.escape(shown), rows="\n".join(rows), more=more)
        return HTMLResponse(page, headers=_HEADERS)

    def _entries(self, path: str, full: str) -> Iterator[_Entry]:
        """What would be served under its name."""
        for name in os.listdir(full):
            try:
                _, found = self.lookup_path(os.path.join(path, name))
            except OSError:
                continue
            if found is not None and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                yield _Entry(stat.S_ISREG(found.st_mode), name, found.st_size, found.st_mtime)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in path.split(os.sep))
