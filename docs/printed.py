"""Reprints the reference pages that come from code: ``make docs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wellhead import limits
from wellhead.cli import reference
from wellhead.settings import page as settings_page

REFERENCE = Path(__file__).parent / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": reference.reference_page,
    "limits.md": limits.reference_page,
    "settings.md": settings_page.reference_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
