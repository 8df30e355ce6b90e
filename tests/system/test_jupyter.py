"""JupyterLab behind the agent, opened at its public name by a real browser; a cell is run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets import Origin
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.kit.app_visits import run_the_cell
from tests.kit.browser import browsing
from tests.kit.programs import Edge, Program, environment, quiet_port
from tests.kit.visitors import ask, request, visiting
from tests.system.conftest import House

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.needs("chromium"),
]

TOKEN = "a-token-of-this-test"
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": "21*2",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
RUN_IN_PAGE = """
async ([token, code]) => {
  const auth = {headers: {Authorization: `token ${token}`}};
  const made = await fetch('/api/kernels', {...auth, method: 'POST', body: '{"name": "python3"}'});
  const kernel = await made.json();
  const url = `wss://${location.host}/api/kernels/${kernel.id}/channels?token=${token}`;
  const socket = new WebSocket(url);
  const result = await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('no result in time')), 30000);
    socket.onerror = () => reject(new Error('the socket failed'));
    socket.onopen = () => socket.send(JSON.stringify({
      channel: 'shell', parent_header: {}, metadata: {}, buffers: [],
      header: {msg_id: 'm1', msg_type: 'execute_request', session: 's1', username: '', version: '5.3',
               date: new Date().toISOString()},
      content: {code, silent: false, store_history: true, user_expressions: {}, allow_stdin: false},
    }));
    socket.onmessage = event => {
      const message = JSON.parse(event.data);
      if (message.msg_type === 'execute_result') resolve(message.content.data['text/plain']);
      if (message.msg_type === 'error') reject(new Error(message.content.evalue));
    };
  });
  socket.close();
  await fetch(`/api/kernels/${kernel.id}`, {...auth, method: 'DELETE'});
  return result;
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home, port = tmp_path_factory.mktemp("lab"), quiet_port()
    notebooks = home / "notebooks"
    notebooks.mkdir()
    (notebooks / "answer.ipynb").write_text(json.dumps(NOTEBOOK))
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME")
    dirs = {name: str(home / name.lower()) for name in names}
    for path in dirs.values():
        Path(path).mkdir()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={notebooks}",
        "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    if os.geteuid() == 0:
        command.append("--allow-root")
    with (
        Program(command, environment(home, **dirs)) as server,
        Edge(home / "wellhead") as edge,
        edge.agent(port) as agent,
    ):
        server.line(r"is running at", 60)
        yield House(edge, agent.hostname, port, agent=agent)


def test_a_cell_is_run_in_the_browser(lab: House, tmp_path: Path) -> None:
    with browsing(lab.edge, tmp_path, lab.hostname) as browser:
        page = browser.pages[0]
        page.goto(f"{lab.agent.url}/lab/tree/answer.ipynb?token={TOKEN}&reset", timeout=60_000)
        run_the_cell(page)
        page.screenshot(path=tmp_path / "lab.png")
        # The same once more, in the page's own words: a kernel's WebSocket at the public name.
        assert page.evaluate(RUN_IN_PAGE, [TOKEN, "6*7"]) == "42"


async def test_a_forged_origin_does_not_get_a_kernels_socket(lab: House) -> None:
    auth = f"Authorization: token {TOKEN}"
    async with visiting(lab.edge, lab.hostname) as visitor:
        fields = (auth, "Content-Type: application/json")
        await visitor.send(
            request("/api/kernels", lab.host("tls"), *fields, method="POST", body=b'{"name": "python3"}')
        )
        kernel = json.loads((await visitor.reply()).body)["id"]
    # Jupyter asks for the origin where a cookie speaks for the user, as in a browser; a token needs none.
    login = await ask(lab.edge, lab.hostname, f"/lab?token={TOKEN}")
    cookies = "; ".join(cookie.partition(";")[0] for cookie in login.all("set-cookie"))
    url = f"{lab.agent.url.replace('https', 'wss')}/api/kernels/{kernel}/channels"
    for origin, accepted in ((lab.agent.url, True), ("https://evil.example", False)):
        try:
            # By the address: not every resolver knows names under .localhost.
            async with connect(
                url, origin=Origin(origin), host="127.0.0.1", port=lab.edge.https, ssl=lab.edge.trust(),
                proxy=None, open_timeout=20, additional_headers={"Cookie": cookies},
            ):  # fmt: skip
                assert accepted, f"{origin} was let in"
        except InvalidStatus as error:
            assert not accepted and error.response.status_code == 403
    assert (await ask(lab.edge, lab.hostname, f"/api/kernels/{kernel}", auth, method="DELETE")).status == 204
