"""A chat that streams tokens, run by ``wellhead run``: in a browser, and in curl by both versions of HTTP."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.browser import CHROMIUM, browsing
from tests.kit.programs import Edge, Program, environment, wellhead

ROOT = Path(__file__).parents[2]
TOKENS = 13  # of the answer to a word

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Chat:
    edge: Edge
    url: str

    @property
    def hostname(self) -> str:
        return self.url.removeprefix("https://").partition(":")[0]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    home = tmp_path_factory.mktemp("chat")
    with Edge(home) as edge:
        command = wellhead("run", "examples.chat:app", "--name", "chat")
        with Program(command, environment(home), cwd=ROOT) as program:
            url = program.line(r"(https://chat\.localhost:\d+)")[1]
            program.line(r"(?i)\b(online|connected)\b")
            yield Chat(edge, url)
            assert "Traceback" not in program.text


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.needs("curl")
def test_curl_sees_each_token_when_it_is_ready(chat: Chat, version: str) -> None:
    command = ["curl", "-sSN", version, "--cacert", str(chat.edge.ca), "--resolve"]
    command += [f"{chat.hostname}:{chat.edge.https}:127.0.0.1", f"{chat.url}/events?prompt=hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        came = [time.monotonic() for line in curl.stdout if line.startswith(b'data: "')]
        assert curl.wait(20) == 0
    assert len(came) == TOKENS and came[-1] - came[0] >= 0.3  # one after the other, not all at the end


@pytest.mark.needs(CHROMIUM)
def test_a_browser_sees_tokens_by_events_and_by_a_websocket(chat: Chat, tmp_path: Path) -> None:
    with browsing(chat.edge, tmp_path, chat.hostname) as browser:
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(chat.url + "/")
        for how in ("Events", "Socket"):
            page.fill("input", f"by {how}")
            page.click(f"text={how}")
            page.wait_for_function("+document.querySelector('#answer').dataset.tokens >= 2")
            assert page.get_attribute("#answer", "data-done") is None  # some are there before the last
            page.wait_for_selector("#answer[data-done]")
            assert page.get_attribute("#answer", "data-tokens") == str(TOKENS + 1)
            assert f"You said “by {how}”" in page.inner_text("#answer")
        page.screenshot(path=str(tmp_path / "chat.png"))
        assert not faults
