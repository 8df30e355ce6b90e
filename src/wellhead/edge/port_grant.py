"""By what a visitor was let into a port, and whether that still holds: what is open ends with it."""

from __future__ import annotations

from typing import Final, NamedTuple

from wellhead.model.records import KeyId
from wellhead.model.visibility import PortAccess, Visibility


class Grant(NamedTuple):
    """``key`` let the visitor in, ``admin`` says whether its scope is that; or a link signed in ``epoch``.

    Neither: everybody may. When a link expires what it opened goes on.
    """

    key: KeyId | None = None
    admin: bool = False
    epoch: int | None = None

    def holds(self, access: PortAccess, port: int) -> bool:
        """Whether who was let in would be let in now."""
        visibility = access.of(port)
        if visibility is Visibility.PUBLIC:
            return True
        if self.key is not None:
            return self.admin or visibility is Visibility.TEAM
        return self.epoch == access.links_epoch


EVERYBODY: Final = Grant()
