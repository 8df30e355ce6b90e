"""The floor plan: who may import whom, read from the source of every module.

::

    composition   serve, serve_*, cli             may know everything
    faces         sdk                             over client and agent
    programs      edge, control, agent, host      never know one another
    visitors      visitors                        under edge and agent, over net
    applications  inprocess                       under agent and host, over net
    I/O           net  under edge, agent, host    client  under agent, host, cli
    contracts     wire  under net and its users
    nouns         model, settings, errors, ...    under all

Imports inside functions and under ``TYPE_CHECKING`` count like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

NOUNS = {
    "errors",
    "issued",
    "limits",
    "links_key",
    "model",
    "settings",
    "lines",
    "logs",
    "private",
    "profile",
    "version",
}
PROGRAMS = {"edge", "control", "agent", "host"}  # and the guest, which a host puts into each sandbox
COMPOSITION = {
    "serve", "serve_control", "serve_process", "serve_host", "serve_host_process",
    "embedded", "testing", "cli", "__main__",
}  # fmt: skip

# room -> the rooms it may import from, beside itself
MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "model": {"errors"},
    "settings": {"errors", "model"},
    "limits": {"settings"},
    "private": {"errors"},
    "issued": {"errors", "private"},
    "links_key": {"errors", "model", "private"},
    "profile": {"errors", "model", "settings", "private"},
    "lines": set(),
    "logs": {"errors", "lines", "model"},
    "wire": {"errors", "model"},
    "net": NOUNS | {"wire"},
    "client": NOUNS | {"net"},
    "visitors": NOUNS | {"wire", "net"},
    "edge": NOUNS | {"wire", "net", "visitors"},
    "control": NOUNS | {"wire"},
    "inprocess": NOUNS | {"wire", "net"},
    "agent": NOUNS | {"wire", "net", "visitors", "client", "inprocess"},
    "guest": {"errors", "model", "version", "wire"},
    "host": NOUNS | {"wire", "net", "client", "inprocess", "guest"},
    "sdk": NOUNS | {"client", "agent"},
    "": {
        "version",
        "errors",
        "model",
        "agent",
        "client",
        "inprocess",
        "sdk",
    },  # wellhead/__init__.py: the public names
}

# What brings in sockets, time or tasks: not for rooms that turn bytes into facts.
IMPURE = {"asyncio", "socket", "ssl", "selectors", "select", "threading", "time", "logging", "uvloop"}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((SOURCE / "wellhead").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(_modules())


def _imports(module: str, path: Path) -> Iterator[str]:
    """Every module that this one names in an import, ours resolved to the module that is loaded."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


IMPORTS = {module: set(_imports(module, path)) for module, path in MODULES.items()}


def _room(module: str) -> str:
    return (module.split(".") + [""])[1]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rooms_below_its_own(module: str) -> None:
    room = _room(module)
    if room in COMPOSITION:
        return
    assert room in MAY_IMPORT, f"{room} has no place in the floor plan"
    rooms = {_room(name) for name in IMPORTS[module] if name.split(".")[0] == "wellhead"}
    strangers = rooms - MAY_IMPORT[room] - {room}
    assert not strangers, f"{module} imports from {sorted(strangers)}"


def test_programs_never_know_one_another() -> None:
    """What the table says, said once more: a slip in the table must not pass unseen."""
    for room in PROGRAMS:
        assert not MAY_IMPORT[room] & (PROGRAMS | COMPOSITION)


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name) in {"wire", "model", "errors"}])
def test_what_is_pure_imports_no_sockets_no_clock_and_no_tasks(module: str) -> None:
    assert not {name.split(".")[0] for name in IMPORTS[module]} & IMPURE


def test_there_is_no_cycle_of_imports() -> None:
    """Not between modules, TYPE_CHECKING included: two modules that need each other are one noun."""
    state: dict[str, int] = {}  # 1: on the way, 2: done

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if state.get(module) == 2:
            return
        assert state.get(module) != 1, " -> ".join([*trail[trail.index(module) :], module])
        state[module] = 1
        for name in sorted(IMPORTS[module] & MODULES.keys()):
            if name != module:
                visit(name, (*trail, module))
        state[module] = 2

    for module in MODULES:
        visit(module, ())
