from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import visit
from tests.kit.programs import Agent, Edge
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run


def test_a_directory_is_served_until_it_is_stopped(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(300_000))
    (tmp_path / ".env").write_text("secret")
    (tmp_path / "inner").mkdir()
    with Agent(edge.home, ".", "--name", "my-files", command="serve", cwd=tmp_path) as agent:
        assert agent.name == "my-files"
        assert ">big.bin</a>" in visit(edge, agent).text
        assert len(visit(edge, agent, "/big.bin").content) == 300_000
        assert visit(edge, agent, "/big.bin", Range="bytes=-10").headers["content-length"] == "10"
        assert visit(edge, agent, "/.env").status_code == 404
        moved = visit(edge, agent, "/inner")
        assert moved.headers["location"] == f"http://my-files.localhost:{edge.http}/inner/"
        assert visit(edge, agent, "/big.bin", "HEAD").headers["content-length"] == "300000"
        agent.line(r"^GET +/big\.bin 206 ")
        assert agent.stop() == ExitCode.OK
    assert agent.out[0] == f"https://my-files.localhost:{edge.https} -> {tmp_path}"


def test_what_is_no_directory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", str(tmp_path / "absent")]) == ExitCode.USAGE
    assert capsys.readouterr().err == f"error: {tmp_path}/absent is not a directory\n"
