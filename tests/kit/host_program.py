"""A host's program for tests: joins where it has a token, then runs until a signal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wellhead import logs
from wellhead.host import main
from wellhead.host.app import Facts
from wellhead.host.join import JoinOptions
from wellhead.model.access import Secret
from wellhead.settings import HostProgramSettings


def run() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--url")
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--token")
    given = parser.parse_args()
    logs.configure("info")
    settings = HostProgramSettings.load()
    if given.token is not None:
        main.run_join(JoinOptions(given.state, Secret(given.token), given.url, given.ca_file), settings)

    def online(facts: Facts) -> None:
        print(f"online host={facts.host} runtime={facts.runtime} sandboxes={facts.sandboxes}", flush=True)

    main.run(main.RunOptions(settings, given.state), online)
    return 0


if __name__ == "__main__":
    sys.exit(run())
