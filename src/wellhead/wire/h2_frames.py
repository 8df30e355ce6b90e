"""HTTP/2 frames: their numbers, the frames we make, and what SETTINGS say.

::

    +-----------------------------------------------+
    |                 length (24)                   |
    +---------------+---------------+---------------+
    |   type (8)    |   flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 stream identifier (31)                      |
    +=+=============================================================+
    |                   payload (length bytes)                    ...
    +---------------------------------------------------------------+

Source: RFC 9113 sections 4, 6 and 7; RFC 8441 section 3.
"""

from __future__ import annotations

import enum
import struct

from wellhead.errors import H2Error

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
MAX_FRAME = 16384  # bytes of payload; what every peer takes, and all that we take
MAX_WINDOW = 2**31 - 1
MAX_ID = 2**31 - 1
DEFAULT_WINDOW = 65535

# Frame types.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

# Flags.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

# Settings.
HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6
ENABLE_CONNECT_PROTOCOL = 8


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7  # never handed to the application: safe to repeat
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13
    LOST = -1  # never on the wire: the connection ended under the stream


# A header is packed as two numbers and the id: length and type share a word.
header = struct.Struct("!IBI").pack
"""``header(length << 8 | type, flags, stream_id)``: nine bytes."""
read_header = struct.Struct("!IBI").unpack_from
read_u32 = struct.Struct("!I").unpack_from
_u32 = struct.Struct("!IBII").pack
_goaway = struct.Struct("!IBIII").pack
_setting = struct.Struct("!HI")

SETTINGS_ACK = header(SETTINGS, ACK, 0)


def settings_frame(values: dict[int, int]) -> bytes:
    """SETTINGS with these values, by identifier."""
    payload = b"".join([_setting.pack(name, value) for name, value in values.items()])
    return header(len(payload) << 8 | SETTINGS, 0, 0) + payload


def ping_frame(payload: bytes, flags: int = 0) -> bytes:
    """PING with eight bytes; ``flags`` may be ACK."""
    return header(8 << 8 | PING, flags, 0) + payload


def goaway_frame(last_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY: streams above ``last_id`` were and will not be served. ``debug`` is what both agreed on."""
    return _goaway((8 + len(debug)) << 8 | GOAWAY, 0, 0, last_id, code) + debug


def reset_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return _u32(4 << 8 | RST_STREAM, 0, stream_id, code)


def window_frame(stream_id: int, count: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return _u32(4 << 8 | WINDOW_UPDATE, 0, stream_id, count)


def header_frames(stream_id: int, block: bytes, end: bool, most: int = MAX_FRAME) -> bytes:
    """HEADERS with an encoded block, and CONTINUATION where it does not fit into ``most`` bytes."""
    flags = END_STREAM if end else 0
    if len(block) <= most:  # fast path
        return header(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    frames = [header(most << 8 | HEADERS, flags, stream_id), block[:most]]
    for at in range(most, len(block), most):
        piece = block[at : at + most]
        last = at + most >= len(block)
        frames += (header(len(piece) << 8 | CONTINUATION, END_HEADERS if last else 0, stream_id), piece)
    return b"".join(frames)


class PeerSettings:
    """What the peer allows us; before its SETTINGS arrive, what RFC 9113 section 6.5.2 presumes."""

    __slots__ = ("connect_protocol", "header_table", "max_frame", "max_list", "max_streams", "window")

    def __init__(self) -> None:
        self.header_table = 4096  # bytes
        self.max_streams = 100  # live streams that we open; RFC 9113 presumes no limit, and to allow so many
        self.window = DEFAULT_WINDOW  # bytes, of a new stream
        self.max_frame = MAX_FRAME  # bytes of payload
        self.max_list: int | None = None  # bytes of a header list as RFC 9113 counts them; None: not told
        self.connect_protocol = False  # RFC 8441

    def read(self, payload: bytes, *, of_server: bool) -> None:
        """Take over a SETTINGS payload; unknown identifiers are ignored.

        Raises:
            H2Error: its length is no multiple of six, or a value is out of bounds.
        """
        if len(payload) % 6:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"SETTINGS of {len(payload)} bytes")
        for name, value in _setting.iter_unpack(payload):
            if name == HEADER_TABLE_SIZE:
                self.header_table = value
            elif name == ENABLE_PUSH:
                if value > 1 or (value and of_server):
                    raise _bad_setting("ENABLE_PUSH", value)
            elif name == MAX_CONCURRENT_STREAMS:
                self.max_streams = value
            elif name == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise _bad_setting("INITIAL_WINDOW_SIZE", value, ErrorCode.FLOW_CONTROL_ERROR)
                self.window = value
            elif name == MAX_FRAME_SIZE:
                if not MAX_FRAME <= value < 2**24:
                    raise _bad_setting("MAX_FRAME_SIZE", value)
                self.max_frame = value
            elif name == MAX_HEADER_LIST_SIZE:
                self.max_list = value
            elif name == ENABLE_CONNECT_PROTOCOL:
                if value > 1 or (self.connect_protocol and not value):
                    raise _bad_setting("ENABLE_CONNECT_PROTOCOL", value)
                self.connect_protocol = bool(value)


def _bad_setting(name: str, value: int, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> H2Error:
    return H2Error(code, "settings", f"{name} of {value}")
