"""``python -m tests.kit.app_table [APP ...]``: applications in sandboxes, directly and by their ports' names.

Directly is from a browser in the sandbox's own network, at ``http://localhost:PORT``, in turn with one at
the port's name; each figure is the median of three fresh browsers. ``--screenshots DIR`` keeps what they
showed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import BrowserContext

from tests.kit.app_visits import VISITS, Visit
from tests.kit.browser import CHROMIUM, browsing
from tests.kit.key_echoes import Typist
from tests.kit.page_watch import PageWatch
from tests.kit.sandbox_apps import DOMAINS, LOCALLY, AppServer

TIMES = 3
DIRECT = "direct"
HEADER = (
    "| application | reached | ready ms | requests | WebSockets | frames | errors | key echo p50, max ms |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass
class Seen:
    """Of one visit. ``ready``: seconds until the page showed what it has to."""

    ready: float
    watch: PageWatch
    typist: Typist


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apps", nargs="*", help="names of applications; all of them, unless given")
    parser.add_argument("--screenshots", type=Path, metavar="DIR")
    chosen = parser.parse_args()
    visits = [visit for visit in VISITS if not chosen.apps or visit.app.name in chosen.apps]
    apps = [visit.app for visit in visits]
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.closing(AppServer(Path(directory), apps)) as server,
    ):
        print(HEADER)
        for domain in DOMAINS:
            server.at(domain)
            for visit in visits:
                rows: dict[str, list[Seen]] = {DIRECT: [], domain: []}
                for _ in range(TIMES):  # in turn, for the machine has other things to do now and then
                    for way, seen in rows.items():
                        seen.append(_visit(server, visit, way, chosen.screenshots))
                for way, seen in rows.items():
                    print(_row(visit, way, seen), flush=True)


def _visit(server: AppServer, visit: Visit, domain: str, screenshots: Path | None) -> Seen:
    with tempfile.TemporaryDirectory() as profile, server.running(visit.app) as sandbox:
        with _browser(server, visit, domain, Path(profile)) as browser, Typist(sandbox) as typist:
            page = browser.pages[0]
            watch = PageWatch(page)
            began = time.monotonic()
            home = f"http://localhost:{visit.app.port}"
            base = home if domain == DIRECT else sandbox.url(visit.app.port)
            visit.open(page, f"{base}{visit.path}")
            seen = Seen(time.monotonic() - began, watch, typist)
            visit.use(page, sandbox)
            if screenshots is not None:
                screenshots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=screenshots / f"{visit.app.name}-{domain}.png")
    return seen


@contextlib.contextmanager
def _browser(server: AppServer, visit: Visit, domain: str, profile: Path) -> Iterator[BrowserContext]:
    executable = CHROMIUM
    if domain == DIRECT:
        inside = f"nsenter --net=/proc/{server.first_process(visit.app)}/ns/net"
        executable = profile / "chromium"
        executable.write_text(f'#!/bin/sh\nexec {inside} {CHROMIUM} "$@"\n')
        executable.chmod(0o755)
    with browsing(server.edge, profile, server.domain, LOCALLY, executable=executable) as browser:
        yield browser


def _row(visit: Visit, domain: str, seen: list[Seen]) -> str:
    def middle(figures: list[float]) -> str:
        return f"{statistics.median(figures):.0f}"

    cells = [
        visit.app.name,
        domain,
        middle([1000 * each.ready for each in seen]),
        middle([len(each.watch.requests) for each in seen]),
        middle([len(each.watch.sockets) for each in seen]),
        middle([each.watch.frames for each in seen]),
        "<br>".join(sorted({line for each in seen for line in each.watch.complaints})) or "none",
        f"{middle([1000 * each.typist.median for each in seen])}, "
        f"{1000 * max(second for each in seen for second in each.typist.seconds):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
