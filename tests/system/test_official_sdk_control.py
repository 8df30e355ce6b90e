"""Programs of both official SDKs manage tunnels by another base URL and authority, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge
from tests.kit.sdks import NEW, OLD, sdk
from tests.kit.zones import NEEDED, zoned

pytestmark = NEEDED

LIFE = """
import json
from inkbox.tunnels.exceptions import TunnelNameUnavailable, TunnelStateConflict
told = []
made = inkbox.tunnels.create(tunnel_name="whole-life", description="first")
told += [made.tunnel.public_host, made.tunnel.zone, made.tunnel.status.value, bool(made.connect_secret)]
try:
    inkbox.tunnels.create(tunnel_name="whole-life")
except TunnelNameUnavailable:
    told.append("taken")
changed = inkbox.tunnels.update(made.tunnel.id, description=None, metadata={"a": 1})
told += [changed.description, changed.metadata]
told.append(inkbox.tunnels.rotate_secret(made.tunnel.id) not in ("", made.connect_secret))
try:
    inkbox.tunnels.restore(made.tunnel.id)
except TunnelStateConflict:
    told.append("not deleted")
told.append(inkbox.tunnels.delete(made.tunnel.id).status.value)
told.append(inkbox.tunnels.restore(made.tunnel.id).status.value)
inkbox.tunnels.delete(made.tunnel.id)
inkbox.tunnels.force_delete(made.tunnel.id)
told.append([each.tunnel_name for each in inkbox.tunnels.list()])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with zoned(tmp_path_factory.mktemp("zone")) as edge:
        yield edge


def test_a_tunnels_whole_life_in_the_older_sdk(edge: Edge, tmp_path: Path) -> None:
    told = json.loads(sdk(OLD).run(LIFE, edge, tmp_path))
    assert told == [
        "whole-life.localhost", edge.address, "active", True, "taken", None, {"a": 1}, True, "not deleted",
        "pending_removal", "active", [],
    ]  # fmt: skip


def test_the_newer_sdk_sees_and_changes_what_the_older_one_made(edge: Edge, tmp_path: Path) -> None:
    made = 'print(inkbox.tunnels.create(tunnel_name="of-both").tunnel.id)'
    tunnel = sdk(OLD).run(made, edge, tmp_path).strip()
    seen = 'print([str(each.id) for each in inkbox.tunnels.list() if each.tunnel_name == "of-both"])'
    assert sdk(NEW).run(seen, edge, tmp_path).strip() == str([tunnel])
    change = "import uuid; print(inkbox.tunnels.update(uuid.UUID(sys.argv[1]), metadata={'b': 2}).metadata)"
    assert sdk(NEW).run(change, edge, tmp_path, tunnel).strip() == "{'b': 2}"
