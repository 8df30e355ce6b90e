"""A host's program with the lanes it is told: ``python -m tests.kit.lane_host FILE``.

FILE holds JSON: the host's ``state``, the server's ``url`` and ``ca_file``, a ``token`` to join with, the
``edge`` that it dials (an authority, for there may be a link between), its ``lanes`` and its ``settings``.
With one lane all that a server asks of the host comes on one session.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wellhead.host.join import JoinOptions
from wellhead.host.main import RunOptions, join_with, serve
from wellhead.model.access import Secret
from wellhead.model.sandboxes import Lane
from wellhead.net import loop
from wellhead.settings import HostProgramSettings


class Told(BaseModel):
    state: Path
    url: str
    ca_file: Path
    token: str
    edge: str
    lanes: tuple[Lane, ...]
    settings: dict[str, Any]


async def main(told: Told) -> None:
    settings = HostProgramSettings(**told.settings)
    options = JoinOptions(told.state, Secret(told.token), told.url, told.ca_file)
    membership = await join_with(options, settings)
    replace(membership, edge=told.edge).save(told.state)
    running = RunOptions(settings, told.state, destroy_at_end=True, lanes=told.lanes)
    stop = loop.stop_event(asyncio.get_running_loop())
    await serve(running, stop, lambda facts: print("online", flush=True))


if __name__ == "__main__":
    loop.raise_file_limit()
    loop.run(main(Told.model_validate_json(Path(sys.argv[1]).read_text())))
