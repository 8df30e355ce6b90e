"""The OpenAPI document holds: schemathesis, all checks and phases, calls chained by links."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.kit.asgi import served
from tests.kit.fake_hosts import FakeHost, FakeHosts, join
from tests.kit.programs import environment
from wellhead.control.fleet import Fleet
from wellhead.model.access import Secret
from wellhead.settings import ServerSettings
from wellhead.settings.sandboxes import DISK_MB_MAX, LINK_SECONDS_MAX, MEMORY_MB_MAX, VCPUS_MAX

# A host that was made up may be online, and too small: the answer is as it should be.
_FULL_HOSTS = """
[[operations]]
include-operation-id = "create_sandbox"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
"""
EXAMPLES = 25  # of each operation; raised where there is time


@pytest.fixture
def settings() -> ServerSettings:
    """Whatever the document allows fits."""
    return ServerSettings(
        max_sandbox_vcpus=VCPUS_MAX,
        max_sandbox_memory_mb=MEMORY_MB_MAX,
        max_sandbox_disk_mb=DISK_MB_MAX,
        sandbox_link_max_seconds=LINK_SECONDS_MAX,
    )


@pytest.fixture
async def roomy(fleet: Fleet, hosts: FakeHosts, api: httpx.AsyncClient) -> FakeHost:
    """A host that is never full; streams of events have an end."""
    fleet.hub.close()
    return await join(fleet, hosts, api, vcpus=65536, memory_mb=2**40, disk_mb=2**40)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_document_holds_for_whatever_is_asked(
    app: FastAPI, admin: Secret, tmp_path: Path, roomy: FakeHost
) -> None:
    said = await asked(app, admin, tmp_path, "examples,coverage,fuzzing")
    operations = sum(len(methods) for methods in app.openapi()["paths"].values())
    assert re.search(rf"Tested: {operations}\b", said), said[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_was_made_can_be_gone_on_with(
    app: FastAPI, admin: Secret, tmp_path: Path, roomy: FakeHost
) -> None:
    # By itself: what the other phases make has the names that this one would try.
    said = await asked(app, admin, tmp_path, "stateful")
    followed = re.search(r"API Links:\s+(\d+) covered", said)
    assert followed is not None and int(followed[1]) >= 6, said[-4000:]


async def asked(app: FastAPI, admin: Secret, tmp_path: Path, phases: str) -> str:
    """What schemathesis says of a control plane for which it has an admin key."""
    async with served(app) as port:
        settings = tmp_path / "schemathesis.toml"
        # The key is not in the arguments, which everybody on the machine can read.
        settings.write_text(f'headers = {{ "X-API-Key" = "{admin.reveal()}" }}\n{_FULL_HOSTS}')
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"),
            # A deleted tunnel can be restored and a revoked key be looked at: both are there, by the spec.
            *(
                "--phases",
                phases,
                "--checks",
                "all",
                "--exclude-checks",
                "use_after_free",
                "--max-examples",
                str(EXAMPLES),
                "--generation-database",
                "none",
            ),
            *(
                "--generation-allow-x00",
                "false",
                "--no-color",
                "--seed",
                "1",
                f"http://127.0.0.1:{port}/api/openapi.json",
            ),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(280):
            out, _ = await done.communicate()
    said = out.decode(errors="replace")
    assert done.returncode == 0, said[-12000:]
    return said
