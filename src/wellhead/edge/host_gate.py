"""The hosts' part of the agents' door: which of them is let in, and when its sessions end.

A host says hello as an agent does, with ``host:`` and its id for a tunnel and its own key for a secret. One
hello, one refusal and one count of bad credentials for both: ``Gate`` hears it all and asks here for hosts.

Source: docs/reference/wire.md, "Hosts and lanes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wellhead.edge.credentials import Credentials
from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.hosts import Hosts
from wellhead.errors import RefusedError, Retry
from wellhead.model.access import Secret
from wellhead.model.records import KeyId
from wellhead.model.sandboxes import HostId, HostView, Lane
from wellhead.model.text import shown
from wellhead.net.session import Session
from wellhead.wire.messages import Hello
from wellhead.wire.streams import Reason

PREFIX = "host:"  # of what a hello of a host asks for; no tunnel's name has a colon


@dataclass(frozen=True, slots=True)
class HostAdmission:
    """A host's hello that was found good."""

    host: HostView
    key: KeyId
    lane: Lane


class _Guest(NamedTuple):
    admission: HostAdmission
    hint: str  # which process of the host it is of


class HostGate:
    """Judges hosts' hellos, and keeps ``hosts`` true."""

    def __init__(self, directory: HostDirectory, credentials: Credentials, hosts: Hosts) -> None:
        self._directory = directory
        self._credentials = credentials
        self._hosts = hosts
        self._admitted: dict[Session, _Guest] = {}
        directory.on_host_removed(self.end_host)
        directory.on_revoked(self.end_key)

    @property
    def sessions(self) -> list[Session]:
        """Those that were let in."""
        return list(self._admitted)

    async def check(self, hello: Hello, peer: str) -> HostAdmission:
        """
        Raises:
            Draining, QuotaExceeded, RecordsAway: not now.
            SecretRejected: no such host, or the key is not its own.
            RefusedError: no such lane.
        """
        try:
            lane = Lane(hello.lane)
        except ValueError:
            lanes = " or ".join(lane.value for lane in Lane)
            raise RefusedError(f"lane {shown(hello.lane)}, must be {lanes}", retry=Retry.NEVER) from None
        asked, secret = hello.tunnel.removeprefix(PREFIX), Secret(hello.secret)
        host, key = await self._credentials.judge(peer, lambda: self._directory.admit_host(asked, secret))
        return HostAdmission(host, key, lane)

    def admit(self, session: Session, hello: Hello, admission: HostAdmission) -> None:
        """New streams of the lane go to this session; an older one of the same process is in doubt."""
        host, lane = admission.host.id, admission.lane
        for older, guest in self._admitted.items():
            theirs = guest.admission.host.id, guest.admission.lane, guest.hint
            if hello.session_hint and theirs == (host, lane, hello.session_hint) and not older.draining:
                older.probe()
        self._admitted[session] = _Guest(admission, hello.session_hint)
        self._hosts.add(host, lane, session, hello.agent)

    def lost(self, session: Session) -> HostAdmission | None:
        """The session is over; None: it was no host's."""
        guest = self._admitted.pop(session, None)
        if guest is None:
            return None
        self._hosts.remove(guest.admission.host.id, session)
        return guest.admission

    def end_host(self, host: HostId) -> None:
        """End the live sessions of a host whose record is gone."""
        for session, guest in list(self._admitted.items()):
            if guest.admission.host.id == host:
                self._leave(session, guest)

    def end_key(self, key: KeyId) -> None:
        """End the live sessions that a key let in: it was revoked, or its time is over."""
        for session, guest in list(self._admitted.items()):
            if guest.admission.key == key:
                self._leave(session, guest)

    def _leave(self, session: Session, guest: _Guest) -> None:
        host = guest.admission.host.id
        self._hosts.remove(host, session)
        session.dismiss(Reason.REMOVED if self._directory.host(host) is None else Reason.SESSION_LOST)
