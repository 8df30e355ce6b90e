"""What one visitor may send, and how long it may take."""

from __future__ import annotations

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

MAX_CARRIED = 60 * 1024  # bytes of a head that still fits into a frame, with what the edge adds to it


class VisitSettings(BaseModel):
    """Sizes and times of requests, WebSockets and raw connections."""

    max_request_line_bytes: PositiveInt = Field(8192, description="Longest request line; beyond: 414.")
    max_field_bytes: PositiveInt = Field(
        8192, description="Longest header field, name and value; beyond: 431."
    )
    max_head_bytes: PositiveInt = Field(
        32768, le=MAX_CARRIED, description="Longest request head; beyond: 431."
    )
    max_fields: PositiveInt = Field(100, description="Most header fields of a request; beyond: 431.")
    max_trailer_bytes: PositiveInt = Field(
        8192, le=MAX_CARRIED, description="Most bytes of trailers after a body; beyond: 400."
    )
    max_chunk_extension_bytes: NonNegativeInt = Field(
        256, description="Longest extension of one chunk; beyond: 400."
    )
    max_reply_head_bytes: PositiveInt = Field(
        65536, description="Longest head of an upstream's reply; beyond: 502."
    )
    max_interim_heads: NonNegativeInt = Field(16, description="Most 1xx heads before a reply; beyond: 502.")
    max_pipelined: PositiveInt = Field(
        16, description="Most requests read ahead of their answers on one connection."
    )
    max_unread_bytes: NonNegativeInt = Field(
        65536, description="Most of an unread body that is read away to keep a connection."
    )
    unread_seconds: NonNegativeFloat = Field(
        1.0, description="Longest time for reading an unread body away, before the connection is closed."
    )
    hello_seconds: PositiveFloat = Field(
        5.0, description="For a whole ClientHello, and for an agent's hello after the handshake."
    )
    handshake_seconds: PositiveFloat = Field(10.0, description="For a TLS handshake.")
    head_seconds: PositiveFloat = Field(
        10.0, description="For a request's head, counted from its first byte; beyond: 408."
    )
    body_idle_seconds: PositiveFloat = Field(
        30.0, description="Longest silence within a request's body; beyond: 408."
    )
    body_min_bytes_per_second: NonNegativeFloat = Field(
        500.0, description="Slowest request body, judged after `body_grace_seconds`; beyond: 408."
    )
    body_grace_seconds: NonNegativeFloat = Field(
        10.0, description="How long a request's body may be slow before its speed is judged."
    )
    write_idle_seconds: PositiveFloat = Field(
        60.0,
        description="Longest time a reader may take nothing while bytes wait; then its connection is closed.",
    )
    idle_seconds: PositiveFloat = Field(
        620.0, description="Longest time a visitor's connection may stay open without a request."
    )
    reply_seconds: PositiveFloat = Field(
        120.0, description="Longest wait for an upstream's reply head; beyond: 504."
    )
    grpc_silent_seconds: PositiveFloat = Field(
        3600.0,
        description="Longest silence of a gRPC call before its reply begins, in place of `reply_seconds` and "
        "the limits of slow bodies: its caller sets the deadline.",
    )
    sandbox_reply_seconds: PositiveFloat = Field(
        3600.0,
        description="Longest silence of a sandbox before its reply begins, in place of `reply_seconds`: who"
        " runs a command there says how long it may take.",
    )
    half_close_seconds: NonNegativeFloat = Field(
        5.0,
        description="How long a visitor that ended its half may wait for a reply to begin; then it is taken"
        " for gone.",
    )
    linger_seconds: NonNegativeFloat = Field(
        1.0, description="How long a connection that we close is read on, so that the last reply arrives."
    )
    passthrough_idle_seconds: PositiveFloat = Field(
        3600.0,
        description="Longest silence of a passthrough tunnel's connection, both ways; then it is closed.",
    )
    passthrough_half_close_seconds: NonNegativeFloat = Field(
        5.0,
        description="Longest silence of a passthrough tunnel's connection of which one half has ended and"
        " nothing waits; then it is closed.",
    )
    passthrough_linger_seconds: NonNegativeFloat = Field(
        1.0,
        description="How long a passthrough tunnel's connection that we close is read on, so that what was"
        " said last arrives.",
    )
    drain_seconds: NonNegativeFloat = Field(30.0, description="For open exchanges to finish after SIGTERM.")
    websocket_ping_seconds: PositiveFloat = Field(
        20.0, description="Time between the edge's pings on a visitor's WebSocket."
    )
    websocket_drain_seconds: NonNegativeFloat = Field(
        10.0,
        description="Longest time over which a restart asks open WebSockets to come again, 50 ms each.",
    )
    websocket_pings_per_second: PositiveFloat = Field(
        100.0, description="Most pings and unasked pongs of one WebSocket; beyond: close 1008."
    )
