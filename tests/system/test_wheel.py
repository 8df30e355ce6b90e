"""The built wheel in an empty environment: what a user has after ``pip install``, and nothing else."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit.programs import Program, environment
from tests.kit.small_apps import NoContent, served

ROOT = Path(__file__).parents[2]
PIP_SECONDS = 280

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]


def _environment(home: Path) -> dict[str, str]:
    kept = environment(home)
    kept.pop("PYTHONPATH", None)
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _pip(python: str | Path, arguments: Sequence[str], cwd: Path) -> None:
    command = [str(python), "-m", "pip", "--quiet", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=_environment(cwd), capture_output=True, text=True, timeout=PIP_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files behind."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=unwanted)
    _pip(sys.executable, ["wheel", "--no-deps", "--wheel-dir", str(directory), str(source)], directory)
    (found,) = directory.glob("wellhead-*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment that has the wheel and what it asks for."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory / "venv", with_pip=True)
    programs = directory / "venv" / "bin"
    pinned = ["--constraint", str(ROOT / "requirements" / "runtime.txt")]
    _pip(programs / "python", ["install", *pinned, str(wheel)], directory)
    return programs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user") / "home"


def _run(programs: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs / "wellhead"), *arguments],
        cwd=programs.parent,
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    package = ROOT / "src" / "wellhead"
    files = {
        str(path.relative_to(ROOT / "src"))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entries,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
        told = archive.read(entries).decode()
    assert packed == files
    assert {"wellhead/py.typed", "wellhead/control/store/migrations/script.py.mako"} <= packed
    assert "[pytest11]\nwellhead = wellhead.testing" in told  # pytest finds the plugin by itself


def test_what_is_installed_is_the_wheel_and_fits_together(programs: Path) -> None:
    _pip(programs / "python", ["check"], programs)
    where = subprocess.run(
        [str(programs / "python"), "-c", "import wellhead; print(wellhead.__file__)"],
        cwd=programs,
        env=_environment(programs),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(where.stdout.strip()).is_relative_to(programs.parent), where


USERS_PROGRAM = """
import wellhead

with wellhead.Wellhead(base_url="https://x", timeouts=wellhead.Timeouts()) as server:
    made: wellhead.CreatedTunnel = server.tunnels.create("my-agent", metadata={"a": 1})
    found: wellhead.Tunnel | None = server.tunnels.find("my-agent")
    with server.tunnels.connect(8000, name="my-agent", secret=made.connect_secret) as listener:
        url: str = listener.public_url


async def main() -> None:
    async with wellhead.AsyncWellhead() as server:
        tunnels: list[wellhead.Tunnel] = await server.tunnels.list(status=wellhead.TunnelStatus.ACTIVE)
        keys: wellhead.KeyRecord = await server.keys.get("x")
"""
MISTAKEN = """
import wellhead

server = wellhead.Wellhead()
server.tunnels.create(5)
server.tunnels.connect(8000, nmae="x")
server.nothing
"""


def test_a_users_program_is_type_checked_against_what_is_installed(programs: Path, tmp_path: Path) -> None:
    def check(text: str) -> str:
        (tmp_path / "program.py").write_text(text)
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(programs / "python")]
        done = subprocess.run(
            [*command, "program.py"],
            cwd=tmp_path,
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=200,
        )
        return done.stdout + done.stderr

    assert check(USERS_PROGRAM).startswith("Success"), check(USERS_PROGRAM)
    mistakes = check(MISTAKEN)
    assert "Found 3 errors" in mistakes and 'Unexpected keyword argument "nmae"' in mistakes


def test_help_names_the_verbs_and_each_has_its_own(programs: Path, home: Path) -> None:
    told = _run(programs, home, "--help").stdout
    verbs = [line.split()[0] for line in told.partition("Commands:")[2].splitlines() if line[:3].strip()]
    assert {"up", "http", "demo", "start", "doctor", "trust", "service"} <= set(verbs)
    for verb in verbs:
        done = _run(programs, home, verb, "--help")
        assert done.returncode == 0 and f"Usage: wellhead {verb}" in done.stdout, done.stderr


def test_the_demo_shows_a_round_trip(programs: Path, home: Path) -> None:
    done = _run(programs, home, "demo", "--once")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def app() -> Iterator[int]:
    with served(NoContent) as port:
        yield port


def test_a_server_and_an_agent_carry_a_visitor(programs: Path, home: Path, app: int, tmp_path: Path) -> None:
    command, env = str(programs / "wellhead"), _environment(home)
    up = [command, "up", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with Program(up, env, cwd=tmp_path) as server:
        plain = server.line(r"^ready https=\S+ http=http://127\.0\.0\.1:(\d+) ")[1]
        with Program([command, "http", str(app), "--name", "from-wheel"], env, cwd=tmp_path) as agent:
            agent.line(r"^connected$")
            visit = urllib.request.Request(f"http://127.0.0.1:{plain}/")
            visit.add_header("Host", f"from-wheel.localhost:{plain}")
            with urllib.request.urlopen(visit, timeout=20) as reply:
                assert reply.status == 204
            listed = _run(programs, home, "tunnels", "list")
            assert listed.returncode == 0 and "from-wheel" in listed.stdout, listed.stderr
            well = _run(programs, home, "doctor")
            assert "ok    key" in well.stdout, well.stdout
            assert agent.stop(signal.SIGINT) == 0
        assert server.stop(signal.SIGINT) == 0
