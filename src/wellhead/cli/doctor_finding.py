"""What one check of ``wellhead doctor`` found, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    OK = "ok"
    WARNING = "warn"  # works, or does no harm yet
    FAILED = "fail"  # has to be put right: the exit code becomes 1
    SKIPPED = "skip"  # could not be looked at, because of something said above it


@dataclass(frozen=True, slots=True)
class Finding:
    check: str  # a constant word
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Verdict.FAILED, found, remedy)


def skipped(check: str, because: str) -> Finding:
    return Finding(check, Verdict.SKIPPED, because)
