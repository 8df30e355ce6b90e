"""What every route of the host's API stands on: the sandboxes, and the limits."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from wellhead.errors import HostInvalid, InputError
from wellhead.host.entry import Entry
from wellhead.host.guest_link import GuestLink, LinkTerms
from wellhead.host.metrics import Metrics
from wellhead.host.table import Table
from wellhead.model.sandboxes import SandboxId, read_sandbox_id


@dataclass(frozen=True, slots=True)
class ApiTerms:
    """Limits of the API."""

    upload_bytes: int = 100 * 1024 * 1024  # of a file that comes in one request
    stream_upload_bytes: int = 10 * 1024 * 1024 * 1024  # of one that comes as a stream
    output_bytes: int = 16 * 1024 * 1024  # of each stream of a command that is answered at once
    outputs_bytes: int = 256 * 1024 * 1024  # of all such commands together, beyond a few KiB of each
    body_bytes: int = 1024 * 1024  # of a JSON body
    message_bytes: int = 64 * 1024  # of a message in our own dialects
    paste_bytes: int = 4 * 1024 * 1024  # of a message in wrenn's, whose SDK sends a paste as one
    first_seconds: float = 30.0  # for the first message of a WebSocket
    ping_seconds: float = 30.0
    exec_seconds: float = 30.0  # for a command that names no time-out
    exec_seconds_max: float = 24 * 3600.0
    link: LinkTerms = LinkTerms()


class Context:
    """One for all routes."""

    def __init__(self, sandboxes: Table, metrics: Metrics, terms: ApiTerms) -> None:
        self.sandboxes = sandboxes
        self.metrics = metrics
        self.terms = terms

    def asked(self, connection: HTTPConnection) -> SandboxId:
        """The sandbox that a path names.

        Raises:
            HostInvalid: no id of a sandbox.
        """
        try:
            return read_sandbox_id(connection.path_params["id"])
        except InputError as error:
            raise HostInvalid(str(error)) from None

    def link(self, sandbox: SandboxId) -> GuestLink:
        """The way into a sandbox that runs; something happens in it now.

        Raises:
            HostNotFound, HostState: it is not here, or does not run.
        """
        link = self.way(self.sandboxes.running(sandbox))
        self.sandboxes.touch(sandbox)
        return link

    def way(self, entry: Entry) -> GuestLink:
        """The way into a sandbox."""
        return GuestLink(entry.guest_socket, self.terms.link)
