"""The pages a person sees when we answer ourselves, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.browser import browsing
from tests.kit.programs import Edge, quiet_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(120), pytest.mark.needs("chromium")]


def test_the_pages_for_404_502_and_503_say_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    nothing = quiet_port()
    with Edge(tmp_path / "home") as edge, edge.agent(nothing) as agent, edge.agent(quiet_port()) as gone:
        gone.stop()
        addresses = {
            404: f"https://nobody-here-0000.localhost:{edge.https}/",
            502: agent.url,
            503: gone.url,
        }
        said = {404: "wellhead http", 502: "start the application", 503: "start the agent"}
        with browsing(edge, tmp_path / "browser", agent.hostname) as browser:
            page = browser.pages[0]
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for status, url in addresses.items():
                    reply = page.goto(url)
                    assert reply is not None and reply.status == status
                    text = page.inner_text("body")
                    assert str(status) in text and said[status].lower() in text.lower()
                    assert (reply.headers["x-request-id"]) in text
                    assert page.title().startswith(str(status))
                    page.screenshot(path=tmp_path / f"{status}-{scheme}.png")
            # The browser itself says that the load failed; nothing else may, our own policy least of all.
            assert all("Failed to load resource" in text for text in complaints), complaints
