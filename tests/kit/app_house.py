"""A server with applications in its sandboxes, and a browser that visits them at the names of their ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext

from tests.kit.app_visits import Visit
from tests.kit.key_echoes import Typist
from tests.kit.page_watch import PageWatch
from tests.kit.sandbox_apps import App, AppServer
from wellhead.client.sandboxes import Sandbox
from wellhead.model.visibility import Visibility

CRISP_SECONDS = 0.25  # half of the keys that are typed are seen within


@dataclass(frozen=True)
class AppHouse:
    server: AppServer
    browser: BrowserContext

    def visit(self, visit: Visit, place: Path) -> None:
        """Open an application and use it, while somebody types in its sandbox; ``place``: for a picture.

        Raises:
            AssertionError: something went another way than at home, or the keys were seen late.
        """
        with self._typing(visit.app) as sandbox:
            self._use(visit, sandbox, f"{sandbox.url(visit.app.port)}{visit.path}", place)

    def visit_by_link(self, visit: Visit, place: Path) -> None:
        """The same where the port is private: nobody sees it but by a link."""
        port = visit.app.port
        with self._typing(visit.app) as sandbox:
            sandbox.set_visibility(Visibility.PRIVATE, port)
            with contextlib.closing(self.browser.new_page()) as page:
                answer = page.goto(f"{sandbox.url(port)}{visit.path}")
                assert answer is not None and answer.status == 401
                page.screenshot(path=place / "private.png")
            link = urlsplit(sandbox.share(port).url)
            path = urlsplit(visit.path)
            linked = link._replace(path=path.path, query="&".join(filter(None, (path.query, link.query))))
            try:
                self._use(visit, sandbox, linked.geturl(), place)
            finally:
                sandbox.set_visibility(Visibility.PUBLIC, port)

    def _use(self, visit: Visit, sandbox: Sandbox, url: str, place: Path) -> None:
        with contextlib.closing(self.browser.new_page()) as page:
            watch = PageWatch(page)
            try:
                visit.open(page, url)
                visit.use(page, sandbox)
            except Exception as error:
                raise AssertionError(f"{error}\nthe page complained: {watch.complaints}") from error
            finally:
                page.screenshot(path=place / "page.png")
        assert not watch.complaints, watch.complaints
        assert bool(watch.sockets) == visit.sockets, watch.requests

    @contextlib.contextmanager
    def _typing(self, app: App) -> Iterator[Sandbox]:
        with self.server.running(app) as sandbox:
            with Typist(sandbox) as typist:
                yield sandbox
            assert typist.median < CRISP_SECONDS, typist.seconds
