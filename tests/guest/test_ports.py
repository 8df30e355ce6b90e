"""Listening ports, from the kernel's tables and in a real guest."""

from __future__ import annotations

import getpass
import socket
import sys

import pytest

from tests.kit.guests import Guest
from wellhead.guest.ports import Listener, read_table

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 78 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 79 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 80 1
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are of a little-endian machine")
def test_who_listens_is_read_and_who_talks_is_not() -> None:
    assert list(read_table(TCP)) == [Listener("127.0.0.1", 8080, "77"), Listener("0.0.0.0", 80, "78")]
    assert list(read_table(TCP6)) == [Listener("::1", 3000, "80")]
    assert list(read_table("")) == []


def test_a_port_is_told_with_its_process(guest: Guest) -> None:
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
    script += "print(s.getsockname()[1], flush=True); time.sleep(600)"
    with guest.call("exec", argv=[sys.executable, "-c", script]) as call:
        pid = call.message()["started"]["pid"]
        found = call.frame()
        assert found is not None
        port = int(found[1])
        with socket.socket() as connected, socket.create_server(("127.0.0.1", 0)):
            connected.connect(("127.0.0.1", port))  # which makes no listener, and the other is nobody's here
            ports = guest.ask("ports")["ports"]
        assert ports == [
            {
                "port": port, "address": "127.0.0.1", "pid": pid, "command": ports[0]["command"],
                "argv": [sys.executable, "-c", script], "user": getpass.getuser(),
            }
        ]  # fmt: skip
        assert ports[0]["command"].startswith("python")
