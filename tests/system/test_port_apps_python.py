"""Applications of Python in sandboxes, used in a browser at the names of their ports, at two domains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.app_house import AppHouse
from tests.kit.app_visits import LAB_VISIT, STATIC_VISIT, STREAMLIT_VISIT
from tests.kit.hosted import NEEDED
from tests.kit.sandbox_apps import LAB, STATIC, STREAMLIT

APPS = (STATIC, STREAMLIT, LAB)
pytestmark = [*NEEDED, pytest.mark.slow, pytest.mark.needs("chromium")]


def test_directories_are_walked_and_a_file_arrives_whole(app_house: AppHouse, tmp_path: Path) -> None:
    app_house.visit(STATIC_VISIT, tmp_path)


def test_streamlit_hears_what_is_typed_and_takes_a_file(app_house: AppHouse, tmp_path: Path) -> None:
    app_house.visit(STREAMLIT_VISIT, tmp_path)


def test_jupyterlab_runs_a_notebook_and_takes_a_file(app_house: AppHouse, tmp_path: Path) -> None:
    app_house.visit(LAB_VISIT, tmp_path)


def test_a_private_jupyterlab_is_opened_by_a_link_and_its_kernels_too(
    app_house: AppHouse, tmp_path: Path
) -> None:
    app_house.visit_by_link(LAB_VISIT, tmp_path)
