"""Where the ``wellhead`` command begins, and ``python -m wellhead``: what has to be done before all else."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line.

    Ctrl-C while its modules are read ends it as it ends any program, without a traceback.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if any("wh_" in word or "whs_" in word for word in sys.argv):
        from wellhead.cli.argv import hide_credentials

        hide_credentials()
    from wellhead.cli.main import main as command_line

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


if __name__ == "__main__":
    main()
