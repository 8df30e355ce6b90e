"""Dev servers of Node.js in sandboxes, used in a browser at the names of their ports, at two domains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.app_house import AppHouse
from tests.kit.app_visits import NEXT_VISIT, VITE_VISIT
from tests.kit.hosted import NEEDED
from tests.kit.sandbox_apps import NEEDED_BY_NODE, NEXT, VITE

APPS = (VITE, NEXT)
pytestmark = [*NEEDED, *NEEDED_BY_NODE, pytest.mark.slow, pytest.mark.needs("chromium")]


def test_an_edit_is_seen_in_a_page_of_vite_without_loading_it_anew(
    app_house: AppHouse, tmp_path: Path
) -> None:
    app_house.visit(VITE_VISIT, tmp_path)


def test_an_edit_is_seen_in_a_page_of_next_whose_form_takes_a_file(
    app_house: AppHouse, tmp_path: Path
) -> None:
    app_house.visit(NEXT_VISIT, tmp_path)


def test_a_private_dev_server_is_opened_by_a_link_and_its_sockets_too(
    app_house: AppHouse, tmp_path: Path
) -> None:
    app_house.visit_by_link(VITE_VISIT, tmp_path)
