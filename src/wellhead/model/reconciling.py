"""What a host's report makes of the records of its sandboxes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from wellhead.model.sandboxes import LIVE, SandboxId, SandboxStatus, may_become

SETTLING_SECONDS = 3.0  # after a change of a record, in which a report may be older than the change

_S = SandboxStatus


@dataclass(frozen=True, slots=True)
class Kept:
    """A live sandbox as the records have it. ``busy``: somebody is changing it."""

    id: SandboxId
    status: SandboxStatus
    changed_seconds_ago: float
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What a host says of a sandbox; of one that is over also why."""

    status: SandboxStatus
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A sandbox that was ``seen`` in a status is to have another. Who sees it changed leaves it."""

    sandbox: SandboxId
    seen: SandboxStatus
    to: SandboxStatus
    reason: str | None = None


@dataclass(slots=True)
class Outcome:
    """``absent``: live ones that the report does not name. ``destroy``: what the host has and should not."""

    moves: list[Move] = field(default_factory=list)
    absent: set[SandboxId] = field(default_factory=set)
    destroy: list[SandboxId] = field(default_factory=list)


def reconcile(
    kept: Sequence[Kept],
    reported: Mapping[SandboxId, Said],
    absent_before: Collection[SandboxId],
) -> Outcome:
    """``absent_before``: those that the host's last report did not name either.

    A report may have been written before a change that the records have already: what was changed just now
    is left alone, and what is not named is believed to be gone when it is not named twice.
    """
    outcome = Outcome()
    for each in kept:
        says = reported.get(each.id)
        # An end is never older than a change: nothing comes back from it.
        ended = says is not None and says.status not in LIVE
        believed = each.changed_seconds_ago >= SETTLING_SECONDS or ended
        if each.busy:
            continue
        if says is None:
            if believed and each.id in absent_before:
                over = _S.ERROR if each.status is _S.STARTING else _S.STOPPED
                outcome.moves.append(Move(each.id, each.status, over, "its host has it no more"))
            outcome.absent.add(each.id)
        elif each.status is _S.STOPPING and not ended:
            outcome.destroy.append(each.id)
        elif (believed or each.status is _S.MISSING) and may_become(each.status, says.status):
            outcome.moves.append(Move(each.id, each.status, says.status, says.reason))
    known = {each.id for each in kept}
    outcome.destroy += [
        sandbox
        for sandbox, says in reported.items()
        if sandbox not in known and says.status is not _S.STOPPED
    ]
    return outcome
