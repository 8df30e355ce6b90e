"""Where the ``wellhead`` command begins, and ``python -m wellhead``: what has to be done before all else."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line.

    Ctrl-C while its modules are read ends it as it ends any program, without a traceback.
    """
    _open_what_is_closed()
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


def _open_what_is_closed() -> None:
    """Descriptors 0, 1 and 2, where whoever started us closed them: a socket must not take such a number.

    libuv ends a program that closes a socket of so low a number, and others would print into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
