from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cli.conftest import visit
from tests.kit.programs import Agent, Edge, eventually, run
from wellhead.cli.exit import ExitCode

HANDLER = """
import logging
logging.basicConfig(format="theirs: %(message)s")

def app(request, ctx):
    logging.warning("asked for %s", request.path)
    if request.path == "/wrong":
        raise ValueError("on purpose")
    return "{said}"

def make():
    return lambda *given: asgi(*given)

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"asgi"}})

"""


def _write(directory: Path, said: str = "hello") -> None:
    (directory / "main.py").write_text(HANDLER.format(said=said))


def _run(edge: Edge, directory: Path, app: str, *flags: str, wait: bool = True) -> Agent:
    return Agent(edge.home, app, *flags, wait=wait, command="run", cwd=directory)


@pytest.mark.parametrize(
    ("app", "flags", "told"),
    [
        ("main:app", [], "hello"),
        ("main:make", ["--factory", "--interface", "asgi"], "asgi"),
    ],
)
def test_an_application_is_answered_for(
    edge: Edge, tmp_path: Path, app: str, flags: list[str], told: str
) -> None:
    _write(tmp_path)
    with _run(edge, tmp_path, app, *flags) as agent:
        assert visit(edge, agent, "/a").text == told
        agent.line(r"^GET +/a 200 ")
        assert agent.stop(signal.SIGINT) == ExitCode.OK
    assert agent.out[0] == f"https://{agent.hostname}:{edge.https} -> {app}"
    assert "Traceback" not in agent.text


def test_an_error_is_a_500_and_its_traceback_is_on_stderr_only(edge: Edge, tmp_path: Path) -> None:
    _write(tmp_path)
    with _run(edge, tmp_path, "main:app") as agent:
        reply = visit(edge, agent, "/wrong")
        agent.line(r"^GET +/wrong 500 .*handler_failed")
        agent.line(r"ValueError: on purpose")
        assert reply.status_code == 500 and "on purpose" not in reply.text
        assert agent.stop() == ExitCode.OK
    error = "\n".join(agent.err)
    assert f'File "{tmp_path}/main.py"' in error and "Traceback" not in "\n".join(agent.out)
    assert error.count("ValueError: on purpose") == 1
    assert "theirs: asked for /wrong" in error  # the application's own logging is as it says


def test_a_made_up_name_is_remembered_for_the_application_and_its_directory(
    edge: Edge, tmp_path: Path
) -> None:
    names = []
    for directory in ("one", "one", "two"):
        (tmp_path / directory).mkdir(exist_ok=True)
        _write(tmp_path / directory)
        with _run(edge, tmp_path / directory, "main:app") as agent:
            names.append(agent.name)
            agent.stop()
    assert names[0] == names[1] != names[2]


def test_an_application_that_does_not_load_is_shown_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("1 / 0\n")
    ended = run("run", "main:app", home=tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == ExitCode.FAILED
    assert ended.stderr.splitlines()[-1] == "error: main cannot be loaded: ZeroDivisionError (above)"
    assert f'{tmp_path}/beside.py", line 1' in ended.stderr
    assert "wellhead/cli" not in ended.stderr and "importlib" not in ended.stderr


def test_what_can_be_called_and_is_no_application_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def app(a, b, c, d): ...\n")
    ended = run("run", "main:app", home=tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == ExitCode.FAILED
    assert ended.stderr == "error: main:app takes 4 arguments: neither an application nor a handler\n"


def test_a_factory_that_is_not_said_to_be_one_is_told_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def make(): ...\n")
    ended = run("run", "main:make", home=tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == ExitCode.FAILED
    assert ended.stderr.splitlines() == [
        "error: main:make takes no argument: neither an application nor a handler",
        "hint: if it makes one: connect(make()), or `wellhead run --factory`",
    ]


def test_a_startup_that_fails_ends_it(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    with _run(edge, tmp_path, "main:app", wait=False) as agent:
        assert agent.wait() == ExitCode.FAILED
    assert agent.err == ["error: the application's startup failed: no database"]


# Reloading


def test_a_change_is_served_at_the_same_address(edge: Edge, tmp_path: Path) -> None:
    _write(tmp_path, "one")
    with _run(edge, tmp_path, "main:app", "--reload") as agent:
        for said in ("two", "six", "ten"):  # as long as one another, and written within a second
            mark = agent.mark()
            _write(tmp_path, said)
            agent.line(r"^main\.py changed: starting again$", after=mark)
            agent.line(r"^connected$", after=mark)
            assert visit(edge, agent).text == said
        assert not (tmp_path / "__pycache__").exists()
        children = psutil.Process(agent.pid).children()
        assert len(children) == 1
        assert agent.stop(signal.SIGINT) == ExitCode.OK
        assert not children[0].is_running()
    urls = {line.split()[0] for line in agent.out if line.startswith("https://")}
    assert urls == {f"https://{agent.hostname}:{edge.https}"}


def test_code_that_does_not_load_waits_for_the_next_change(edge: Edge, tmp_path: Path) -> None:
    _write(tmp_path)
    with _run(edge, tmp_path, "main:app", "--reload") as agent:
        (tmp_path / "main.py").write_text("def app(:\n")
        agent.line(r"SyntaxError")
        agent.line(r"^the app does not run; waiting for a change of its files$")
        assert visit(edge, agent).status_code in (502, 503)  # and not the old code's answer
        assert agent.text.count("starting again") == 1
        mark = agent.mark()
        _write(tmp_path, "mended")
        agent.line(r"^connected$", after=mark)
        assert visit(edge, agent).text == "mended"
        assert agent.stop() == ExitCode.OK
    assert agent.text.count("starting again") == 2


def test_a_wrong_key_ends_it_at_once(edge: Edge, tmp_path: Path) -> None:
    _write(tmp_path)
    with _run(edge, tmp_path, "main:app", "--reload", "--api-key", "wh_x", wait=False) as agent:
        assert agent.wait() == ExitCode.REFUSED


def test_a_child_does_not_outlive_who_started_it(edge: Edge, tmp_path: Path) -> None:
    _write(tmp_path)
    with _run(edge, tmp_path, "main:app", "--reload") as agent:
        (child,) = psutil.Process(agent.pid).children()
        os.kill(agent.pid, signal.SIGKILL)
        eventually(lambda: _is_over(child), 20)


def test_nor_does_one_whose_application_holds_up_the_loop(edge: Edge, tmp_path: Path) -> None:
    _slow(tmp_path, "old")
    with ThreadPoolExecutor(1) as pool, _run(edge, tmp_path, "main:app", "--reload") as agent:
        pool.submit(_body, edge, agent, "/stuck")
        agent.line("^stuck$")
        (child,) = psutil.Process(agent.pid).children()
        os.kill(agent.pid, signal.SIGKILL)
        eventually(lambda: _is_over(child), 30)


ALONE = [sys.executable, "-c", "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"]

SLOW = """
import asyncio, signal, time

async def app(request):
    if request.path == "/slow":
        print("begun", flush=True)
        await asyncio.sleep(0.4)
        return "finished"
    if request.path == "/endless":
        return endless()
    if request.path == "/stuck":
        print("stuck", flush=True)
        time.sleep(600)
    return "{said}"

async def endless():
    print("endless", flush=True)
    while True:
        yield "more"
        await asyncio.sleep(0.05)
"""


def _slow(directory: Path, said: str) -> None:
    (directory / "main.py").write_text(SLOW.format(said=said))


@pytest.mark.parametrize("path", ["/slow", "/endless", "/stuck"])
def test_what_runs_at_a_change_is_finished_shortly_or_given_up(edge: Edge, tmp_path: Path, path: str) -> None:
    _slow(tmp_path, "old")
    with ThreadPoolExecutor(1) as pool, _run(edge, tmp_path, "main:app", "--reload") as agent:
        visiting = pool.submit(_body, edge, agent, path)
        agent.line("^(begun|stuck|endless)$")
        mark = agent.mark()
        _slow(tmp_path, "new")
        agent.line(r"^connected$", after=mark)
        assert visit(edge, agent).text == "new"
        body = visiting.result(30)
        assert body == ("finished" if path == "/slow" else None)
        assert agent.stop() == ExitCode.OK


def _body(edge: Edge, agent: Agent, path: str) -> str | None:
    """What a visitor gets; None where it is cut off or refused."""
    try:
        reply = visit(edge, agent, path)
    except httpx.HTTPError:
        return None
    return reply.text if reply.status_code == 200 else None


@pytest.mark.parametrize("flags", [[], ["--reload"]], ids=["", "reload"])
@pytest.mark.parametrize("path", ["/slow", "/stuck"])
def test_an_interrupt_ends_it_cleanly_and_a_second_one_at_once(
    edge: Edge, tmp_path: Path, flags: list[str], path: str
) -> None:
    _slow(tmp_path, "hello")
    with (
        ThreadPoolExecutor(1) as pool,
        Agent(edge.home, "main:app", *flags, command="run", cwd=tmp_path, prefix=ALONE) as agent,
    ):
        visiting = pool.submit(_body, edge, agent, path)
        agent.line("^(begun|stuck)$")
        processes = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children()]
        os.killpg(agent.pid, signal.SIGINT)  # as a terminal does: to all of them
        if path == "/slow":
            assert agent.wait() == ExitCode.OK
            assert visiting.result(30) == "finished"
        else:
            eventually(lambda: _again(agent), 20, every=0.3)
            # Cleanly, where both came before it looked up, and its child was ended by the second.
            assert agent.wait() in (-signal.SIGINT, ExitCode.OK)
        for process in processes:
            eventually(lambda process=process: _is_over(process), 20)
    assert "Traceback" not in agent.text


def _again(agent: Agent) -> bool:
    """Whether it is over; where it is not, interrupt it once more."""
    if agent.process.poll() is None:
        os.killpg(agent.pid, signal.SIGINT)
    return agent.process.poll() is not None


def _is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
