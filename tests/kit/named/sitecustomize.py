"""On the path of a foreign program: names under ``.localhost`` are this machine, as RFC 6761 has it.

Few resolvers know that (systemd's and ``libnss-myhostname`` do), and the program is not to be changed.
"""

import socket

_asked = socket.getaddrinfo


def _getaddrinfo(host, *rest, **named):  # type: ignore[no-untyped-def]
    text = host.decode() if isinstance(host, bytes) else host
    return _asked("127.0.0.1" if text and text.endswith(".localhost") else host, *rest, **named)


socket.getaddrinfo = _getaddrinfo
