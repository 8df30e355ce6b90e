"""The records' feed: what control plane and edge of one server tell one another, as lines of JSON.

The control plane tells all records in batches, ``Whole``, and from then on each change in order. The edge
tells agents' comings and goings, and says how far it has come where a ``Mark`` asks. Both know the other for
the same release of the same program on the same machine: what does not fit the schema ends the conversation.

No secret passes here, only digests, but for the key of a challenge's certificate, which nobody trusts;
nothing that a user wrote but tunnels' names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from wellhead.errors import ProtocolError
from wellhead.model.changes import Change, KeyPut
from wellhead.model.records import KeyId, TunnelId
from wellhead.model.sandboxes import HostId, Lane, SandboxId
from wellhead.model.snapshot import Presence

BATCH = 100  # facts in a line: 25 KB, taken in within a millisecond
ANSWER_MAX = 1 << 20  # bytes of a host's answer that are passed on
LINE_MAX = 8 * ANSWER_MAX  # bytes: an answer whose every byte is escaped; a line of BATCH facts is far below

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of the records, in order. Before ``Whole``: what there is."""

    changes: list[Annotated[Change, Field(discriminator="do")]]
    do: Literal["changes"] = "changes"


@dataclass(frozen=True, slots=True)
class Whole:
    """All records have been told, and the REST API is served: what was not told is not there."""

    made_key: bool  # the first admin key was made, lies in its file, and has not been shown to anybody
    do: Literal["whole"] = "whole"


@dataclass(frozen=True, slots=True)
class Mark:
    """To be answered ``Taken`` when all before it has taken effect."""

    number: int
    do: Literal["mark"] = "mark"


@dataclass(frozen=True, slots=True)
class HttpChallenge:
    """A certificate authority that asks for the token at the name is to be given the answer."""

    hostname: str
    token: str
    answer: str
    do: Literal["put_http"] = "put_http"


@dataclass(frozen=True, slots=True)
class AlpnChallenge:
    """Whoever offers ``acme-tls/1`` alone for the name is to be shown the certificate. PEM."""

    hostname: str
    certificate: str
    key: str = field(repr=False)
    do: Literal["put_alpn"] = "put_alpn"


@dataclass(frozen=True, slots=True)
class ChallengeOver:
    """Nothing is to be proved any more by the token; "": by the certificate."""

    hostname: str
    token: str
    do: Literal["drop_challenge"] = "drop_challenge"


@dataclass(frozen=True, slots=True)
class CertificatePut:
    """The files of these names' certificates are new."""

    names: list[str]
    do: Literal["put_certificate"] = "put_certificate"


@dataclass(frozen=True, slots=True)
class OrdersFailing:
    """Of how many names the last order of a certificate failed."""

    names: int
    do: Literal["orders_failing"] = "orders_failing"


@dataclass(frozen=True, slots=True)
class HostCall:
    """A request for a host, to be answered ``HostAnswered`` with its number. ``body``: JSON, or empty."""

    number: int
    host: HostId
    method: str
    target: str
    body: str = field(repr=False)
    seconds: float  # that the host has for its answer
    do: Literal["host_call"] = "host_call"


@dataclass(frozen=True, slots=True)
class Failed:
    """The control plane cannot serve; the text is for the operator."""

    text: str
    do: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Taken:
    number: int
    do: Literal["taken"] = "taken"


@dataclass(frozen=True, slots=True)
class Seen:
    """The presence of a tunnel whose sessions the edge has had."""

    tunnel: TunnelId
    presence: Presence


@dataclass(frozen=True, slots=True)
class Presences:
    """Each of them as it now is: telling it again changes nothing."""

    seen: list[Seen]
    do: Literal["presences"] = "presences"


@dataclass(frozen=True, slots=True)
class Trespass:
    """A live key claimed a tunnel to which it has no right."""

    key: KeyId
    tunnel: TunnelId
    peer: str
    do: Literal["trespass"] = "trespass"


@dataclass(frozen=True, slots=True)
class KeysUsed:
    """Agents were let in by these keys since it was last told."""

    keys: list[KeyId]
    do: Literal["keys_used"] = "keys_used"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name of ours was asked for and has no certificate."""

    hostname: str
    do: Literal["wanted"] = "wanted"


@dataclass(frozen=True, slots=True)
class HostAnswered:
    """The host's answer; ``status`` 0: it could not be asked, or did not answer, and ``body`` says why."""

    number: int
    status: int
    body: str = field(repr=False)
    do: Literal["host_answered"] = "host_answered"


@dataclass(frozen=True, slots=True)
class HostSeen:
    """Which lanes of a host have a session now; none: it is not there."""

    host: HostId
    lanes: list[Lane]
    peer: str
    agent: str
    do: Literal["host_seen"] = "host_seen"


@dataclass(frozen=True, slots=True)
class Wake:
    """A visitor waits for a port of a paused sandbox that says so: it is to be resumed."""

    sandbox: SandboxId
    do: Literal["wake"] = "wake"


@dataclass(frozen=True, slots=True)
class Stop:
    """Write what is waiting, and end."""

    do: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class Ask:
    """To be answered ``Here``: a process that is there may hang."""

    do: Literal["ask"] = "ask"


@dataclass(frozen=True, slots=True)
class Here:
    do: Literal["here"] = "here"


FromControl = (
    Changes
    | Whole
    | Mark
    | HttpChallenge
    | AlpnChallenge
    | ChallengeOver
    | CertificatePut
    | OrdersFailing
    | HostCall
    | Failed
    | Here
)
FromEdge = Taken | Presences | KeysUsed | Trespass | Wanted | HostAnswered | HostSeen | Wake | Stop | Ask

_CONFIG = ConfigDict(extra="forbid", strict=True, ser_json_bytes="hex", val_json_bytes="hex")
_from_control: TypeAdapter[FromControl] = TypeAdapter(
    Annotated[FromControl, Field(discriminator="do")], config=_CONFIG
)
_from_edge: TypeAdapter[FromEdge] = TypeAdapter(
    Annotated[FromEdge, Field(discriminator="do")], config=_CONFIG
)


def from_control(message: FromControl) -> bytes:
    """The line of a message of the control plane."""
    if isinstance(message, Changes):
        message = Changes([_bare(change) for change in message.changes])
    return _from_control.dump_json(message) + b"\n"


def from_edge(message: FromEdge) -> bytes:
    """The line of a message of the edge."""
    return _from_edge.dump_json(message) + b"\n"


def _bare(change: Change) -> Change:
    """Without what people wrote about it."""
    if isinstance(change, KeyPut):
        return replace(change, key=replace(change.key, label="", prefix="", description=None))
    return change


class Lines(Generic[T]):
    """The far side's messages, out of bytes as they come."""

    def __init__(self, adapter: TypeAdapter[T]) -> None:
        self._adapter = adapter
        self._rest = b""

    def receive(self, data: bytes) -> Iterator[T]:
        """
        Raises:
            ProtocolError: a line that is no message, or a longer one than there are.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                yield self._adapter.validate_json(line)
            except ValidationError as error:
                # The line itself is not shown: it holds digests.
                what = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(str(part) for part in what["loc"])
                raise ProtocolError(f"a line of the feed is no message: {where} {what['msg']}") from None
        if len(self._rest) > LINE_MAX:
            raise ProtocolError(f"a line of the feed of more than {LINE_MAX} bytes")


def lines_of_control() -> Lines[FromControl]:
    """What the edge reads by."""
    return Lines(_from_control)


def lines_of_edge() -> Lines[FromEdge]:
    """What the control plane reads by."""
    return Lines(_from_edge)
