"""Settings of the agents on the HTTP/2 carrier."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt

from wellhead.settings.http2 import MAX_WINDOW


class CarrierSettings(BaseModel):
    """Requests, replies and connections of such an agent."""

    h2_carrier_pool: Annotated[int, Field(ge=1, le=32)] = Field(
        32,
        description="Requests that an agent on the HTTP/2 carrier asks for ahead, unless it says so itself.",
    )
    h2_carrier_idle_seconds: PositiveFloat = Field(
        300.0, description="Age at which a request for work is ended on the HTTP/2 carrier, to be made anew."
    )
    h2_carrier_idle_answer: Literal["quiet", "408", "off"] = Field(
        "quiet",
        description="How it is ended: `quiet`, which no agent logs; `408`, which the official SDKs log each"
        " time; `off`: it never is.",
    )
    h2_carrier_deadline_seconds: PositiveFloat = Field(
        30.0,
        description="Longest time for a reply on the HTTP/2 carrier, told to its agents; 2 s later: 504.",
    )
    h2_carrier_wait_seconds: PositiveFloat = Field(
        5.0,
        description="Longest wait of a request until an agent on the HTTP/2 carrier asks for it; then 503.",
    )
    h2_carrier_max_waiting: NonNegativeInt = Field(
        256, description="Most requests that wait so for one agent; beyond: 503."
    )
    h2_carrier_max_body_bytes: PositiveInt = Field(
        33554432, description="Longest request body on the HTTP/2 carrier; beyond: 413."
    )
    h2_carrier_max_message_bytes: PositiveInt = Field(
        16777216,
        description="Longest WebSocket message on the HTTP/2 carrier; beyond: close 1009. The official Python"
        " SDK takes no more than 64 kB of text or 48 kB of binary data.",
    )
    h2_carrier_bind_seconds: PositiveFloat = Field(
        10.0,
        description="For an agent on the HTTP/2 carrier to ask for the bytes of a WebSocket or a connection.",
    )
    h2_carrier_takeovers_per_minute: PositiveInt = Field(
        10,
        description="How often agents that do not know they are superseded may displace one another; beyond:"
        " their hellos get 429.",
    )
    h2_carrier_max_streams: PositiveInt = Field(
        2048, ge=100, description="Most streams at once of an agent's connection on the HTTP/2 carrier."
    )
    h2_carrier_window_bytes: PositiveInt = Field(
        1048576,
        ge=65535,
        le=MAX_WINDOW,
        description="Most of a reply that an agent on the HTTP/2 carrier may send ahead of its visitor.",
    )
    h2_carrier_connection_window_bytes: PositiveInt = Field(
        16777216,
        ge=65535,
        le=MAX_WINDOW,
        description="Most bytes of all replies that such an agent may send without hearing from the edge.",
    )
