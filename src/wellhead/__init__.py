"""Wellhead: a public hostname for every agent and every sandbox port."""

from __future__ import annotations

from wellhead.version import VERSION as __version__

__all__ = ["__version__"]
