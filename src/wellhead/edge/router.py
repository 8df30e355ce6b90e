"""Where a hostname leads: the control plane, a tunnel, a port of a sandbox, or nowhere. Pure.

The routes of this house, in order of the decision:

* the domain itself, the zone, ``api.{domain}``, ``localhost``, 127.0.0.1 and ::1: the control plane;
* ``{port}-cl-….{domain}``: the port of that sandbox, or a page that says what is wrong with the name;
* ``proxy.{domain}``, where the path form is on: the ports that its paths name;
* any other ``{label}.{domain}``: the tunnel of that name, if there is one;
* anything else: nowhere. A name that never existed and one that was deleted look alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from wellhead.errors import InputError
from wellhead.model.names import join_authority
from wellhead.model.ports import PortName, is_port_label, read_port
from wellhead.model.sandboxes import read_sandbox_id
from wellhead.visitors import port_pages
from wellhead.visitors.house import Destination, Place
from wellhead.wire.path_form import PATH_LABEL

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


NOWHERE = Destination(Place.NOWHERE)


@dataclass(frozen=True, slots=True)
class PortDestination(Destination):
    """A port of a sandbox that may exist; None: what stands for it is none, and ``page`` says so."""

    port: PortName | None = None


@dataclass(frozen=True, slots=True)
class PathsDestination(Destination):
    """The name of the path form: which port of which sandbox, each target says."""


class Router:
    """Decides by hostname alone; whether the tunnel exists is the directory's to say.

    ``domain`` and ``zone`` are written as ``destination`` takes them; ``https_port`` is what visitors dial.
    ``path_form``: there is a name for it. ``control_origins``: of the control plane's pages, by its names.
    """

    def __init__(self, domain: str, zone: str, https_port: int = 443, *, path_form: bool = False) -> None:
        self._suffix = "." + domain
        self._port = None if https_port == 443 else https_port
        self._zone = zone
        self._path_form = path_form
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
                if "-cl-" in label and is_port_label(label):
                    return _port(label, plain)
                if self._path_form and label == PATH_LABEL:
                    return PathsDestination(Place.PORT, label, plain)
                return Destination(Place.TUNNEL, label, plain)
        return NOWHERE

    def hostname(self, name: str) -> str:
        """The hostname of a tunnel or a port, by its first label."""
        return name + self._suffix

    def origin(self, name: str) -> str:
        """Where a tunnel is served over TLS: ``https://`` and its authority."""
        return "https://" + join_authority(self.hostname(name), self._port)

    def is_zone(self, hostname: str) -> bool:
        """Whether agents may dial this name: the zone, or a loopback name of this machine."""
        return hostname == self._zone or hostname in LOOPBACK_NAMES


def _port(label: str, plain: bool) -> PortDestination:
    port, _, sandbox = label.partition("-")
    page = port_pages.BAD_PORT
    try:
        number = read_port(port)
        page = port_pages.BAD_SANDBOX
        name = PortName(number, read_sandbox_id(sandbox))
    except InputError:
        return PortDestination(Place.PORT, "", plain, page)
    return PortDestination(Place.PORT, label, plain, port=name)
