"""What the host has settled for one sandbox before its guest begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from wellhead.errors import InputError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"


@dataclass(frozen=True, slots=True)
class GuestTerms:
    """
    ``user``: who runs what is started without a user, and ``home``, where it begins. ``env``: what every
    program gets. ``cgroup``: descriptor of a cgroup v2 directory in which the guest may make more; None where
    there is none. ``chrooted``: the guest's root is the sandbox's own, and users are those of its
    ``/etc/passwd``. ``isolated``: its processes see no others. ``no_new_privs``: programs gain nothing by
    setuid files. ``capabilities``: by number, the most a program may ever have; None: what the guest has.
    """

    user: str = "root"
    home: str = "/root"
    env: Mapping[str, str] = field(default_factory=dict)
    cgroup: int | None = None
    chrooted: bool = True
    isolated: bool = True
    no_new_privs: bool = False
    capabilities: tuple[int, ...] | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> GuestTerms:
        """
        Raises:
            InputError: no JSON object of these fields.
        """
        try:
            members = json.loads(text)
        except ValueError as error:
            raise InputError("the guest's terms are no JSON") from error
        known = {each.name for each in fields(cls)}
        if not isinstance(members, dict) or members.keys() - known:
            raise InputError(f"the guest's terms are no object of {', '.join(sorted(known))}")
        if members.get("capabilities") is not None:
            members["capabilities"] = tuple(members["capabilities"])
        return cls(**members)
