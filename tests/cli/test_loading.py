from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from wellhead.cli.loading import load
from wellhead.errors import HandlerError, InputError

Module = Callable[[str], str]
_numbers = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Writes a module into the working directory and gives its name, which is of no other module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def module(source: str) -> str:
        name = f"written_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield module
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_application_may_be_an_attribute_of_an_attribute(module: Module) -> None:
    name = module("class Site:\n    @staticmethod\n    def app(request): return 'x'\n")
    assert load(f"{name}:Site.app")(None) == "x"


def test_a_factory_is_called_once(module: Module) -> None:
    name = module("calls = []\ndef make():\n    calls.append(1)\n    return calls.append\n")
    load(f"{name}:make", factory=True)
    assert sys.modules[name].calls == [1]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("main", ""),
        ("main.py:app", "modules are named without .py: main:app"),
        ("./src/main.py", "modules are named without .py: src.main:app"),
        ("main:make()", "--factory calls what is named and serves what it gives"),
        (".main:app", ""),
        (":app", ""),
        ("main:", ""),
    ],
)
def test_what_is_no_name_is_an_error_of_the_caller(name: str, hint: str) -> None:
    with pytest.raises(InputError, match="an application is named MODULE:NAME, as main:app; ") as caught:
        load(name)
    assert getattr(caught.value, "__notes__", [""]) == [hint]


@pytest.mark.parametrize(
    ("attribute", "factory", "complaint"),
    [
        ("absent", False, "has no absent"),
        ("text.absent", False, "has no text.absent"),
        ("text", False, "is of type str, which cannot be called"),
        ("make", True, "gave str, which cannot be called"),
    ],
)
def test_an_application_that_is_none_is_named(
    module: Module, attribute: str, factory: bool, complaint: str
) -> None:
    name = module("text = 'no app'\ndef make(): return text\n")
    with pytest.raises(HandlerError, match=complaint):
        load(f"{name}:{attribute}", factory=factory)


def test_a_typing_error_in_the_name_is_told_with_what_there_is(module: Module) -> None:
    name = module("class Site:\n    def application(self): ...\n")
    with pytest.raises(HandlerError) as caught:
        load(f"{name}:Site.aplication")
    assert caught.value.__notes__ == ["did you mean application?"]


@pytest.mark.parametrize("name", ["not_written", "not_written.deeper"])
def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(
    module: Module, tmp_path: Path, name: str
) -> None:
    with pytest.raises(HandlerError) as caught:
        load(f"{name}:app")
    assert str(caught.value) == f"there is no module not_written, in {tmp_path} or installed"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def app(:\n", "SyntaxError"),
        ("import not_written\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(0)\n", "it exits"),
    ],
)
def test_an_error_of_its_code_is_shown_without_ours(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, complaint: str
) -> None:
    name = module(source)
    with pytest.raises(HandlerError) as caught:
        load(f"{name}:app")
    assert str(caught.value) == f"{name} cannot be loaded: {complaint} (above)"
    shown = capsys.readouterr().err
    assert f'File "{tmp_path}/{name}.py", line 1' in shown
    assert "loading.py" not in shown and "importlib" not in shown


def test_an_error_of_a_factory_is_shown_from_the_factory_on(
    module: Module, capsys: pytest.CaptureFixture[str]
) -> None:
    name = module("def make():\n    raise LookupError('no table')\n")
    with pytest.raises(HandlerError, match=rf"{name}:make\(\) cannot be loaded: LookupError"):
        load(f"{name}:make", factory=True)
    shown = capsys.readouterr().err
    assert "in make" in shown and "no table" in shown and "loading.py" not in shown
