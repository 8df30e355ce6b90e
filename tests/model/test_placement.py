from __future__ import annotations

import math

import pytest

from wellhead.model.placement import Candidate, Resources, choose, reserved, tightest
from wellhead.model.sandboxes import HostId, SandboxStatus

ROOM = Resources(8, 8192, 100_000, math.inf)
NOTHING = Resources()
WANTED = Resources(1, 512, 5120, 1)


def candidate(name: str, taken: Resources = NOTHING, room: Resources = ROOM) -> Candidate:
    return Candidate(HostId(name), room, taken)


def test_the_host_whose_scarcest_resource_is_least_taken_is_chosen() -> None:
    busy_cpu, busy_memory = candidate("a", Resources(vcpus=6)), candidate("b", Resources(memory_mb=4096))
    assert choose([busy_cpu, busy_memory], WANTED) == "b"
    assert choose([busy_cpu, candidate("b", Resources(memory_mb=7000))], WANTED) == "a"


@pytest.mark.parametrize(
    "taken",
    [Resources(vcpus=7.5), Resources(memory_mb=8000), Resources(disk_mb=95_000)],
)
def test_a_host_without_room_for_one_of_them_is_not_chosen(taken: Resources) -> None:
    assert choose([candidate("a", taken)], WANTED) is None
    assert choose([candidate("a", taken), candidate("b", Resources(4, 4096, 50_000))], WANTED) == "b"


def test_the_last_place_is_given_and_no_more() -> None:
    one = Resources(100, 1e6, 1e6, 1)
    assert choose([candidate("a", room=one)], WANTED) == "a"
    assert choose([candidate("a", WANTED, one)], WANTED) is None


def test_where_there_is_nothing_nothing_fits() -> None:
    assert choose([], WANTED) is None
    assert choose([candidate("a", room=Resources())], WANTED) is None
    assert tightest(Resources(), Resources(vcpus=1)) == math.inf


def test_a_paused_sandbox_takes_half_its_memory_no_cpu_and_all_its_disk() -> None:
    assert reserved(SandboxStatus.PAUSED, WANTED) == Resources(0, 256, 5120, 1)
    assert reserved(SandboxStatus.RUNNING, WANTED) == WANTED
