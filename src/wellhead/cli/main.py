"""The command line's front door."""

from __future__ import annotations

from wellhead.version import VERSION


def main() -> None:
    print(f"wellhead {VERSION}")
