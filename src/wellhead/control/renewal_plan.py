"""When certificates are ordered, and which names of the server's own have one. No clock, no chance."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

LEFT: Final = (0.28, 1 / 3)  # of a life: between these it is renewed, by chance, so that names spread out
LAST_PART: Final = 10  # the authority may ask for a later renewal, but not for one within the last tenth
WINDOW_PART: Final = 20  # of a life: windows that authorities give for a renewal are shorter
FIRST_PAUSE: Final = {
    "away": dt.timedelta(seconds=5)
}  # after a failure of this reason; twice as long each time
OTHER_FIRST_PAUSE: Final = dt.timedelta(minutes=1)
PAUSE_MIN, PAUSE_MAX = dt.timedelta(seconds=5), dt.timedelta(hours=6)
PAUSE_PART: Final = 50  # of a life: the longest pause


class Life(NamedTuple):
    """When a certificate begins and ends."""

    begins: dt.datetime
    ends: dt.datetime

    @property
    def length(self) -> dt.timedelta:
        return self.ends - self.begins


def own_names(domain: str, zone: str, *, wildcard: bool) -> list[tuple[str, ...]]:
    """The names that the server always has a certificate for, grouped by certificate; the first names it.

    Without a wildcard each name has its own, so that one whose DNS is wrong does not keep the others without.
    """
    zone_covered = wildcard and zone.partition(".")[2] == domain
    others = [] if zone == domain or zone_covered or _is_address(zone) else [(zone,)]
    return [(f"*.{domain}", domain) if wildcard else (domain,), *others]


def covered(hostname: str, names: Sequence[str]) -> bool:
    """Whether a certificate for ``names`` is one for the hostname."""
    return hostname in names or "*." + hostname.partition(".")[2] in names


def renew_at(life: Life, share: float, suggested: dt.datetime | None = None) -> dt.datetime:
    """When it is renewed: as the authority suggests, else with a third of its life left or a little less.

    ``share`` is chance, 0..1.
    """
    if suggested is not None:
        return min(suggested, life.ends - life.length / LAST_PART)
    return life.ends - life.length * (LEFT[0] + (LEFT[1] - LEFT[0]) * share)


def is_due(life: Life, suggested: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether a renewal is in time, and not one for the asking. Agents renew with up to 43 % left."""
    return now >= life.ends - life.length / 2 or (suggested is not None and now >= suggested)


def is_wish(renew_at: dt.datetime, life: Life, suggested: dt.datetime, now: dt.datetime) -> bool:
    """Whether an authority's suggestion moves a renewal to an earlier time.

    Each answer is another time in its window, by chance: a small difference is no wish.
    """
    return suggested < renew_at - life.length / WINDOW_PART or suggested <= now < renew_at


def pause_after(
    failures: int, reason: str, share: float, life: Life | None, asked_seconds: float | None
) -> dt.timedelta:
    """How long to wait after so many failures in a row, never less than what the authority asked for."""
    longest = PAUSE_MAX if life is None else min(max(life.length / PAUSE_PART, PAUSE_MIN), PAUSE_MAX)
    doubled: int = 2 ** min(failures - 1, 20)
    pause = min(FIRST_PAUSE.get(reason, OTHER_FIRST_PAUSE) * doubled, longest) * (0.75 + share / 2)
    return pause if asked_seconds is None else max(pause, dt.timedelta(seconds=asked_seconds))


def _is_address(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
