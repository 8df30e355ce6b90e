"""What ``wellhead run --reload`` starts anew at each change: the application and its agent, in a process.

``python -m wellhead.cli.run_child PIPE``: a line of JSON comes through the pipe, and its end says: leave.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from pathlib import Path

from wellhead.cli.attending import LinkOptions
from wellhead.cli.exit import ExitCode, exit_code, report
from wellhead.cli.output import speak_plainly
from wellhead.cli.run import RunOptions, run_app

DRAIN_SECONDS = 1.0  # somebody waits for the new code
ORPHANED_SECONDS = 8.0  # for it to leave by itself when the pipe has ended; whoever starts it waits for less


def order(options: RunOptions, link: LinkOptions) -> bytes:
    """The line that a child is told."""
    told = {
        "run": {name: getattr(options, name) for name in RunOptions.__slots__},
        "link": {name: getattr(link, name) for name in LinkOptions.__slots__},
    }
    return json.dumps(told, default=str).encode() + b"\n"


def main() -> None:
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    sys.argv = ["wellhead"]
    threading.Thread(target=_end_orphan, args=(pipe,), name="wellhead-orphan", daemon=True).start()
    # Two versions of a file within a second, as long as one another, have the same compiled file.
    sys.dont_write_bytecode = True
    speak_plainly()
    told = json.loads(_line(pipe))
    link = told["link"]
    link["ca_file"] = None if link["ca_file"] is None else Path(link["ca_file"])
    try:
        run_app(RunOptions(**told["run"]), LinkOptions(**link), drain_seconds=DRAIN_SECONDS, parent=pipe)
    except (Exception, KeyboardInterrupt) as error:
        report(error)
        sys.exit(exit_code(error))
    sys.exit(ExitCode.OK)


def _end_orphan(pipe: int) -> None:
    """End the process where the application holds up the loop, and nobody is there any more to end it."""
    poll = select.poll()
    poll.register(pipe, 0)  # its end alone: what comes through it is for somebody else
    poll.poll()
    time.sleep(ORPHANED_SECONDS)
    os._exit(ExitCode.INTERRUPTED)


def _line(pipe: int) -> bytes:
    line = bytearray()
    while byte := os.read(pipe, 1):
        if byte == b"\n":
            return bytes(line)
        line += byte
    sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
