"""Bounds of a visitor's HTTP/2 connection."""

from __future__ import annotations

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

MAX_WINDOW = 2**31 - 1  # bytes: the largest window that HTTP/2 can name


class Http2Settings(BaseModel):
    """Each is of one connection."""

    h2_max_streams: PositiveInt = Field(
        100, description="Most requests at once on one HTTP/2 connection; beyond: REFUSED_STREAM."
    )
    h2_max_running: PositiveInt = Field(
        150,
        description="Most requests at once, with those that were reset less than `h2_linger_seconds` ago.",
    )
    h2_linger_seconds: NonNegativeFloat = Field(
        1.0, description="How long a request that was reset counts as running."
    )
    h2_window_bytes: PositiveInt = Field(
        196608,
        ge=16384,
        le=MAX_WINDOW,
        description="Most of a request's body that a visitor may send before the agent took it.",
    )
    h2_connection_window_bytes: PositiveInt = Field(
        4194304,
        ge=65535,
        le=MAX_WINDOW,
        description="Most bytes of all bodies that a visitor may send without hearing from the edge.",
    )
    h2_max_held_bytes: PositiveInt = Field(
        33554432,
        description="Most bytes that wait on one connection for agents; beyond: the fullest stream is reset.",
    )
    h2_max_block_bytes: PositiveInt = Field(
        32768, description="Longest header block as it is on the wire; beyond: the connection ends."
    )
    h2_max_continuations: NonNegativeInt = Field(
        16, description="Most CONTINUATION frames of a header block; beyond: the connection ends."
    )
    h2_max_list_bytes: PositiveInt = Field(
        32768, description="Longest header list, each field counted with 32 bytes more; beyond: 431."
    )
    h2_max_decoded_bytes: PositiveInt = Field(
        65536, description="Longest header list, so counted, that is decoded; beyond: the connection ends."
    )
    h2_max_fields: PositiveInt = Field(
        512, description="Most fields in a header list that is decoded; beyond: the connection ends."
    )
    h2_resets: NonNegativeInt = Field(
        200, description="Most requests that a visitor resets in one go, beside `h2_resets_per_second`."
    )
    h2_resets_per_second: NonNegativeFloat = Field(
        50.0, description="Most requests that a visitor resets in the long run; beyond: the connection ends."
    )
    h2_early_reset_seconds: NonNegativeFloat = Field(
        1.0, description="A request that is reset so soon counts for `h2_early_reset_percent`."
    )
    h2_early_reset_percent: NonNegativeInt = Field(
        50, le=100, description="Largest part of a connection's requests reset early; beyond: it ends."
    )
    h2_early_reset_streams: PositiveInt = Field(
        200, description="Fewest requests of a connection before that part is judged."
    )
    h2_violations: NonNegativeInt = Field(
        100, description="Most streams that break a rule in one go, beside `h2_violations_per_second`."
    )
    h2_violations_per_second: NonNegativeFloat = Field(
        33.0, description="Most streams that break a rule in the long run; beyond: the connection ends."
    )
    h2_settings_per_second: PositiveFloat = Field(
        50.0, description="Most SETTINGS frames of a connection; beyond: it ends."
    )
    h2_pings_per_second: PositiveFloat = Field(
        100.0, description="Most PING frames of a connection; beyond: it ends."
    )
    h2_max_control_replies: PositiveInt = Field(
        1000, description="Most answers that wait because a visitor does not read; beyond: it ends."
    )
    h2_max_empty_frames: PositiveInt = Field(
        10, description="Most frames in a row that bring nothing and end nothing; beyond: it ends."
    )
    h2_empty_frames_per_second: PositiveFloat = Field(
        100.0, description="Most such frames in the long run; beyond: the connection ends."
    )
    h2_max_glitches: PositiveInt = Field(
        100, description="Most small violations, halved each second; beyond: the connection ends."
    )
    h2_stall_bytes: PositiveInt = Field(
        1024,
        description="Fewest bytes of a waiting reply that a visitor takes in `write_idle_seconds`; below:"
        " its stream is reset.",
    )
    h2_preface_seconds: PositiveFloat = Field(
        5.0, description="For an HTTP/2 connection's first words; beyond: it ends."
    )
    h2_settings_seconds: PositiveFloat = Field(
        10.0, description="For the acknowledgement of our SETTINGS; beyond: the connection ends."
    )
    h2_goaway_seconds: NonNegativeFloat = Field(
        2.0, description="Longest time between the warning and the last GOAWAY of a connection that leaves."
    )
    h2_max_age_seconds: PositiveFloat = Field(
        3600.0,
        description="Age at which an HTTP/2 connection is asked to leave; up to a tenth more by chance.",
    )
