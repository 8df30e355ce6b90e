"""What an agent asks the edge for over the HTTP/2 carrier: the header lists of its requests.

==========================================  ===============================================
``POST /_system/hello``                     a session
``POST /_system/intake``                    the next envelope; held open until there is one
``POST /_system/response/{request id}``     the reply to one
``CONNECT /_system/ws/{id}``                the bytes of a WebSocket
``CONNECT /_system/tcp/{id}``               the bytes of a TCP connection
==========================================  ===============================================

Source: docs/reference/h2-carrier.md, "Streams"; RFC 8441.
"""

from __future__ import annotations

from wellhead.wire.hpack import Field, Fields

HELLO_PATH = b"/_system/hello"
INTAKE_PATH = b"/_system/intake"
RESPONSE_PATH = b"/_system/response/"  # and a request id
WEBSOCKET_PATH = b"/_system/ws/"  # and a bridge's id
TCP_PATH = b"/_system/tcp/"
WEBSOCKET_PROTOCOL = b"inkbox-tunnel-ws"
TCP_PROTOCOL = b"inkbox-tunnel-tcp"

SECRET = b"x-tunnel-secret"  # the credential's name in generation A
API_KEY = b"x-api-key"  # and in generation B

_NO_BODY: Field = (b"content-length", b"0")


class Caller:
    """Who calls: one agent on one connection.

    ``authority`` is the zone, ``credential`` a name (SECRET or API_KEY) with its value, ``user_agent``
    empty for none.
    """

    __slots__ = ("_known", "_post", "_who")

    def __init__(
        self, authority: bytes, tunnel_id: bytes, credential: Field, *, user_agent: bytes = b""
    ) -> None:
        self._post: Fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority)]
        self._who: Fields = [(b"x-tunnel-id", tunnel_id), credential]
        if user_agent:
            self._who.append((b"user-agent", user_agent))
        self._known: dict[tuple[int, bytes], Fields] = {}

    def hello(self, pool: int | None = None) -> Fields:
        """Ask for a session; ``pool``: slots wanted, None for as many as the edge likes."""
        fields = [*self._post, (b":path", HELLO_PATH), *self._who, _NO_BODY]
        if pool is not None:
            fields.append((b"x-pool-size", b"%d" % pool))
        return fields

    def intake(self, slot: int, owner_token: bytes) -> Fields:
        """Ask for the next envelope. The same list each time: it must not be changed."""
        known = self._known.get((slot, owner_token))
        if known is None:
            known = [
                *self._post,
                (b":path", INTAKE_PATH),
                self._who[0],
                (b"x-owner-token", owner_token),
                (b"x-pool-slot", b"%d" % slot),
                _NO_BODY,
            ]
            self._known[slot, owner_token] = known
        return known

    def response(self, request_id: bytes) -> Fields:
        """What every reply begins with; ``intake_reply.reply_fields`` adds the reply."""
        return [*self._post, (b":path", RESPONSE_PATH + request_id), *self._who]

    def websocket(self, bridge_id: bytes) -> Fields:
        """Open the bytes of a WebSocket."""
        return self._connect(WEBSOCKET_PATH + bridge_id, WEBSOCKET_PROTOCOL, (b"inkbox-ws-id", bridge_id))

    def tcp(self, bridge_id: bytes) -> Fields:
        """Open the bytes of a TCP connection."""
        spoken = (b"sec-websocket-protocol", TCP_PROTOCOL)
        return self._connect(TCP_PATH + bridge_id, TCP_PROTOCOL, spoken, (b"inkbox-tcp-id", bridge_id))

    def _connect(self, path: bytes, protocol: bytes, *rest: Field) -> Fields:
        *said, bridge = rest
        return [
            (b":method", b"CONNECT"),
            *self._post[1:],
            (b":path", path),
            (b":protocol", protocol),
            (b"sec-websocket-version", b"13"),
            *said,
            *self._who,
            bridge,
        ]
