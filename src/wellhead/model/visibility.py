"""Who may see the ports of a sandbox."""

from __future__ import annotations

import enum
from dataclasses import dataclass

PORTS_MAX = 64  # ports of a sandbox with a visibility of their own


class Visibility(enum.Enum):
    """Who may ask a port for something."""

    PRIVATE = "private"  # whoever shows an admin key of its organization, or a signed link
    TEAM = "team"  # besides: any live key of its organization, whatever its scope
    PUBLIC = "public"  # everybody who knows the name


@dataclass(frozen=True, slots=True)
class PortAccess:
    """Who may see the ports of one sandbox.

    ``links_epoch``: links signed under another one are void. ``auto_resume``: a request for a port resumes it
    where it is paused.
    """

    default: Visibility = Visibility.PRIVATE
    ports: tuple[tuple[int, Visibility], ...] = ()  # of those that differ, by number
    links_epoch: int = 0
    auto_resume: bool = False

    def of(self, port: int) -> Visibility:
        for number, visibility in self.ports:
            if number == port:
                return visibility
        return self.default
