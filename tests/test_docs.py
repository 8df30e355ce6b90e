"""Pages are held to the code: printed pages match, links lead somewhere, commands and options exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.kit.sandbox_apps import APPS
from wellhead.cli.main import app
from wellhead.settings import CLIENT_VARIABLES, PREFIX, ServerSettings
from wellhead.visitors import port_pages
from wellhead.visitors.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS: dict[str, Any] = getattr(get_command(app), "commands", {})
MAKE_TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _printed() -> dict[str, Callable[[], str]]:
    spec = importlib.util.spec_from_file_location("printed", ROOT / "docs" / "printed.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, Callable[[], str]] = module.PAGES
    return pages


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", sorted(_printed()))
def test_a_printed_page_says_what_the_code_says(name: str) -> None:
    text = (ROOT / "docs" / "reference" / name).read_text("utf-8")
    assert text == _printed()[name](), "run: make docs"


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_link_leads_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in _anchors(path), f"{target}: no such heading"


def _commands(text: str) -> Iterator[list[str]]:
    """Every command line of ours in code: between backticks, or on an indented line."""
    for code in re.findall(r"`([^`\n]+)`|^ {4}(.+)$", text, re.MULTILINE):
        match = re.search(
            r"(?:^|[\s/])(wellhead (?:up|http|run|serve|demo|start|doctor|trust|service)\b.*"
            r"|make [a-z]+\b.*)$",
            "".join(code).strip(),
        )
        if match and "…" not in match[1]:
            yield shlex.split(match[1], comments=True)


LINES = [
    pytest.param(line, id=f"{_name(page)}: {' '.join(line)}")
    for page in PAGES
    for line in _commands(page.read_text("utf-8"))
]


def test_pages_were_found_to_have_commands() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("line", LINES)
def test_a_command_in_a_page_exists_with_its_options(line: list[str]) -> None:
    if line[0] == "make":
        assert line[1] in MAKE_TARGETS
        return
    command, words = COMMANDS[line[1]], line[2:]
    while inner := getattr(command, "commands", None):
        assert words, f"{line[1]} alone does nothing"
        command, words = inner[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options | {"--help"}


def test_applications_are_started_as_their_page_says() -> None:
    page = (ROOT / "docs" / "reference" / "sandbox-apps.md").read_text("utf-8")
    commands = re.findall(r"^\| [^|`]+ \| `([^`]+)` \|", page, re.MULTILINE)
    assert len(commands) == len(APPS)
    for command, each in zip(commands, APPS, strict=True):
        assert each.command.startswith(command)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_variable_in_a_page_exists(page: Path) -> None:
    known = {*CLIENT_VARIABLES, *(PREFIX + key.upper() for key in ServerSettings.model_fields)}
    assert set(re.findall(r"\bWELLHEAD_[A-Z_]+[A-Z]\b", page.read_text("utf-8"))) <= known


def test_the_help_of_up_tells_the_defaults_of_the_settings() -> None:
    options = {
        parameter.name: parameter for parameter in getattr(get_command(app), "commands", {})["up"].params
    }
    for key in ("domain", "https", "http"):
        assert f"[default: {ServerSettings.model_fields[key].default}]" in options[key].help
    assert set(options) - {"config", "check"} <= set(ServerSettings.model_fields)


PORTS = (ROOT / "docs/reference/sandbox-ports.md").read_text("utf-8")


@pytest.mark.parametrize(
    "page",
    [page for page in vars(port_pages).values() if isinstance(page, Page)],
    ids=lambda page: page.reason,
)
def test_a_page_of_a_port_is_in_the_reference_with_its_status(page: Page) -> None:
    lines = [line for line in PORTS.splitlines() if f"`{page.reason}`" in line]
    assert any(str(page.status) in line for line in lines)


CERTIFICATES = (ROOT / "docs/howto/certificates.md").read_text("utf-8")


@pytest.mark.parametrize("text", re.findall(r"^```toml\n(.*?)^```$", CERTIFICATES, re.M | re.S))
def test_the_settings_of_the_page_of_certificates_lack_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "wellhead.toml").write_text(text)
    assert ServerSettings.load(tmp_path / "wellhead.toml").issuer != "local"
