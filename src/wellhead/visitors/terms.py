"""The limits of visitors' connections, from the settings of the same names."""

from __future__ import annotations

from wellhead.settings import ServerSettings
from wellhead.visitors.house import VisitorTerms
from wellhead.visitors.http2 import HEADS_AT_ONCE
from wellhead.wire.h1 import HeadLimits
from wellhead.wire.h2 import H2Terms


def visitor_terms(settings: ServerSettings) -> VisitorTerms:
    """As the settings say; what an agent is not told is what a server has by default."""
    return VisitorTerms(
        head=HeadLimits(
            request_line=settings.max_request_line_bytes,
            field=settings.max_field_bytes,
            head=settings.max_head_bytes,
            fields=settings.max_fields,
        ),
        max_trailer_bytes=settings.max_trailer_bytes,
        max_chunk_extension_bytes=settings.max_chunk_extension_bytes,
        max_reply_head_bytes=settings.max_reply_head_bytes,
        max_interim_heads=settings.max_interim_heads,
        max_pipelined=settings.max_pipelined,
        head_seconds=settings.head_seconds,
        body_idle_seconds=settings.body_idle_seconds,
        body_min_bytes_per_second=settings.body_min_bytes_per_second,
        body_grace_seconds=settings.body_grace_seconds,
        write_idle_seconds=settings.write_idle_seconds,
        idle_seconds=settings.idle_seconds,
        reply_seconds=settings.reply_seconds,
        grpc_silent_seconds=settings.grpc_silent_seconds,
        sandbox_reply_seconds=settings.sandbox_reply_seconds,
        half_close_seconds=settings.half_close_seconds,
        linger_seconds=settings.linger_seconds,
        max_unread_bytes=settings.max_unread_bytes,
        unread_seconds=settings.unread_seconds,
        websocket_ping_seconds=settings.websocket_ping_seconds,
        websocket_pings_per_second=settings.websocket_pings_per_second,
        websocket_drain_seconds=settings.websocket_drain_seconds,
        h2=_h2_terms(settings),
        h2_max_age_seconds=settings.h2_max_age_seconds,
    )


def _h2_terms(settings: ServerSettings) -> H2Terms:
    return H2Terms(
        heads_at_once=HEADS_AT_ONCE,
        max_streams=settings.h2_max_streams,
        running_share=settings.h2_max_running / settings.h2_max_streams,
        linger_seconds=settings.h2_linger_seconds,
        window=settings.h2_window_bytes,
        connection_window=settings.h2_connection_window_bytes,
        max_held=settings.h2_max_held_bytes,
        high_water=0,  # the agent's credit is what bounds a reply, so none is given for what waits
        low_water=0,
        max_block=settings.h2_max_block_bytes,
        max_continuations=settings.h2_max_continuations,
        max_list=settings.h2_max_list_bytes,
        max_list_decoded=settings.h2_max_decoded_bytes,
        max_fields=settings.h2_max_fields,
        reset_burst=settings.h2_resets,
        resets_per_second=settings.h2_resets_per_second,
        early_reset_seconds=settings.h2_early_reset_seconds,
        early_reset_share=settings.h2_early_reset_percent / 100,
        early_reset_streams=settings.h2_early_reset_streams,
        violation_burst=settings.h2_violations,
        violations_per_second=settings.h2_violations_per_second,
        settings_per_second=settings.h2_settings_per_second,
        pings_per_second=settings.h2_pings_per_second,
        max_control_replies=settings.h2_max_control_replies,
        max_empty_in_a_row=settings.h2_max_empty_frames,
        empty_per_second=settings.h2_empty_frames_per_second,
        max_glitches=settings.h2_max_glitches,
        stall_seconds=settings.write_idle_seconds,
        stall_bytes=settings.h2_stall_bytes,
        preface_seconds=settings.h2_preface_seconds,
        settings_seconds=settings.h2_settings_seconds,
        drain_seconds=settings.h2_goaway_seconds,
    )
