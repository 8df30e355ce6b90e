"""A notebook's cells, in a kernel whose loop runs: the sync calls and the async ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.programs import Edge, environment

pytestmark = pytest.mark.system

CELLS = [
    """
import asyncio, urllib.request
import wellhead

asyncio.get_running_loop()  # there is one

async def handler(request, ctx):
    return f"hello from {ctx.tunnel}"

def visit(listener):
    _, plain = listener.public_urls
    authority = plain.split("/")[2]
    port = authority.split(":")[1]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": authority})
    return urllib.request.urlopen(request, timeout=20).read().decode()

listener = wellhead.connect(handler, name="sync-cell")
""",
    "print(visit(listener))",  # which blocks the kernel's loop
    "listener.close()\nprint(listener.status.name)",
    "listener = await wellhead.connect_async(handler, name='async-cell')",
    "print(await asyncio.to_thread(visit, listener))",
    "await listener.aclose()\nprint(listener.status.name)",
]

EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.outputs:
        if output.get("name") == "stdout":
            print(output["text"], end="")
"""


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path / ".wellhead", wait=False)


def test_cells_open_and_close_listeners_while_the_kernels_loop_runs(edge: Edge, tmp_path: Path) -> None:
    with edge:
        edge.ready()
        ended = subprocess.run(
            [sys.executable, "-c", EXECUTE],
            input=json.dumps(CELLS),
            env=environment(edge.home, HOME=str(tmp_path)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout.splitlines() == [
        "hello from sync-cell",
        "CLOSED",
        "hello from async-cell",
        "CLOSED",
    ], ended.stdout + ended.stderr
