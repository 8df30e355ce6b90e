"""Where a hostname leads: the control plane, a tunnel, or nowhere. Pure.

The routes of this house, in order of the decision:

* the domain itself, the zone, ``api.{domain}``, ``localhost``, 127.0.0.1 and ::1: the control plane;
* ``{label}.{domain}``: the tunnel of that name, if there is one;
* anything else: nowhere. A name that never existed and one that was deleted look alike.
"""

from __future__ import annotations

from wellhead.model.names import join_authority
from wellhead.visitors.house import Destination, Place

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


NOWHERE = Destination(Place.NOWHERE)


class Router:
    """Decides by hostname alone; whether the tunnel exists is the directory's to say.

    ``domain`` and ``zone`` are written as ``destination`` takes them; ``https_port`` is what visitors dial.
    ``control_origins``: of the control plane's pages, by its names.
    """

    def __init__(self, domain: str, zone: str, https_port: int = 443) -> None:
        self._suffix = "." + domain
        self._port = None if https_port == 443 else https_port
        self._zone = zone
        names = (domain, zone, "api." + domain)
        self._control = frozenset((*names, *LOOPBACK_NAMES))
        # Not of loopback's names: whatever answers to them on a visitor's machine may not be this server.
        self.control_origins = frozenset("https://" + join_authority(name, self._port) for name in names)

    def destination(self, hostname: str, *, plain: bool = False) -> Destination:
        """``hostname`` is lower case, without port, brackets or trailing dot."""
        if hostname in self._control:
            return Destination(Place.CONTROL, hostname, plain)
        if hostname.endswith(self._suffix):
            label = hostname[: -len(self._suffix)]
            if label and "." not in label:
                return Destination(Place.TUNNEL, label, plain)
        return NOWHERE

    def hostname(self, name: str) -> str:
        """The hostname of a tunnel."""
        return name + self._suffix

    def origin(self, name: str) -> str:
        """Where a tunnel is served over TLS: ``https://`` and its authority."""
        return "https://" + join_authority(self.hostname(name), self._port)

    def is_zone(self, hostname: str) -> bool:
        """Whether agents may dial this name: the zone, or a loopback name of this machine."""
        return hostname == self._zone or hostname in LOOPBACK_NAMES
