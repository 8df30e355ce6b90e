"""The process that every sandbox's first process is forked from; it loaded the guest, so they share that
memory.

Run as ``python -m wellhead.host.runtime.zygote FD STATE FIRST_ID``; FD is a socket that keeps messages
apart. A message is a ``Birth``, and carries two descriptors: the socket on which to tell how it goes, and
the one that the guest is to listen on. It ends when the host's end of the socket is closed; the sandboxes
go on.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys

from wellhead.guest.main import preload, serve
from wellhead.host.runtime import birth

MESSAGE_MAX = 256 * 1024  # bytes


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    gc.collect()
    gc.freeze()  # or the first collection in each sandbox would write to every page
    # Asked here because it forks, which a program with threads should not.
    why_not = birth.why_not_numbered(int(sys.argv[3]), (sys.argv[2], "/usr")) if int(sys.argv[3]) else ""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a midwife ended
    control.send(json.dumps({"ready": True, "why_not_numbered": why_not}).encode())
    while True:
        text, descriptors, _, _ = socket.recv_fds(control, MESSAGE_MAX, 2)
        if not text:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.path.clear()  # what is missing must not be looked for among the sandbox's files
            told, listening = (socket.socket(fileno=each) for each in descriptors)
            birth.midwife(birth.read(text), told, listening, serve)
        for each in descriptors:
            os.close(each)


if __name__ == "__main__":
    main()
