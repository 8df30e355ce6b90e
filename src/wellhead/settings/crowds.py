"""How many there may be at once, and how agents are asked whether they live."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class CrowdSettings(BaseModel):
    """Counts, bytes held for all together, pings."""

    max_connections: NonNegativeInt = Field(
        0, description="Most connections of visitors; 0: four fifths of the open-file limit."
    )
    connections_per_address: PositiveInt = Field(
        256, description="Most connections of one visitor's address; beyond: 429."
    )
    connections_per_tunnel: PositiveInt = Field(
        1000, description="Most exchanges of one tunnel at once, each on a connection; beyond: 503."
    )
    max_held_bytes: NonNegativeInt = Field(
        0,
        description="Most bytes held for slow readers and agents, all together; beyond, new requests get 503;"
        " 0: a quarter of the memory.",
    )
    session_held_bytes: PositiveInt = Field(
        32 * 1024 * 1024,
        description="Most reply bytes held for one agent's session; beyond, the largest stream is reset.",
    )
    stream_window_bytes: Annotated[int, Field(ge=16 * 1024, le=16 * 1024 * 1024)] = Field(
        256 * 1024, description="Bytes that an agent may send on a stream before the visitor has taken any."
    )
    max_loop_lag_seconds: NonNegativeFloat = Field(
        0.5,
        description="How late the event loop may stay; beyond, a growing part of new requests gets 503;"
        " 0: however late.",
    )
    loop_stall_seconds: NonNegativeFloat = Field(
        1.0, description="The event loop is logged with its stack when it stands for so long; 0: never."
    )
    max_handshakes: PositiveInt = Field(500, description="Most unfinished TLS handshakes.")
    handshakes_per_address: PositiveInt = Field(
        20, description="Most unfinished TLS handshakes of one address."
    )
    unknown_names_per_minute: PositiveInt = Field(
        600,
        description="Most handshakes for names under the domain that no tunnel has; beyond: the TLS alert"
        " unrecognized_name in place of the page 404.",
    )
    port_names_per_minute: PositiveInt = Field(
        60,
        description="Most ports of one sandbox for which the server's own CA makes a certificate in a minute;"
        " beyond, their names are as those that no tunnel has.",
    )
    rejections_per_minute: PositiveInt = Field(
        10, description="Most rejected credentials of one agent's address; beyond, its hellos are put off."
    )
    loopback_exempt: bool = Field(
        True,
        description="Whether limits per address spare 127.0.0.0/8 and ::1, and `/metrics` asks them for no"
        " key; off behind a local proxy.",
    )
    ping_seconds: PositiveFloat = Field(
        10.0, description="Silence on a session after which it is asked whether it lives."
    )
    ping_timeout_seconds: PositiveFloat = Field(
        5.0, description="Wait for the answer, before the session is given up."
    )
