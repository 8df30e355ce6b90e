"""What happens at each limit: the table behind ``docs/reference/limits.md``.

The bounds themselves, their defaults and what they count are the settings'; here stands what a peer above
one of them meets, and by which word log and metrics tell of it.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.settings import ServerSettings, shown_default


class Limit(NamedTuple):
    """``reason``: the label in metrics and the word in log lines; "" where none is told."""

    setting: str
    beyond: str
    reason: str


GROUPS: dict[str, tuple[Limit, ...]] = {
    "A request's head": (
        Limit("max_request_line_bytes", "414, the connection closes", "request-line-too-long"),
        Limit("max_field_bytes", "431, the connection closes", "field-too-long"),
        Limit("max_head_bytes", "431, the connection closes", "head-too-large"),
        Limit("max_fields", "431, the connection closes", "too-many-fields"),
        Limit("head_seconds", "408, the connection closes", "slow-request"),
        Limit("max_pipelined", "no more is read until an answer is out", ""),
        Limit("idle_seconds", "the connection closes, or says GOAWAY", ""),
    ),
    "A request's body": (
        Limit("max_chunk_extension_bytes", "400, the connection closes", "chunk-extension"),
        Limit("max_trailer_bytes", "400, the connection closes", "trailers-too-large"),
        Limit("body_idle_seconds", "408, the connection closes", "slow-request"),
        Limit("body_min_bytes_per_second", "408, the connection closes", "slow-request"),
        Limit("body_grace_seconds", "the speed is judged", "slow-request"),
        Limit("max_unread_bytes", "the connection closes behind the answer", ""),
        Limit("unread_seconds", "the connection closes behind the answer", ""),
    ),
    "A reply": (
        Limit("max_reply_head_bytes", "502", "reply-head-too-large"),
        Limit("max_interim_heads", "502", "too-many-interim"),
        Limit("reply_seconds", "504", "deadline"),
        Limit("grpc_silent_seconds", "504; 408 where the call's own message is missing", "deadline"),
        Limit("half_close_seconds", "the connection closes", "visitor-left"),
        Limit("write_idle_seconds", "the connection is cut; a WebSocket gets close code 1013", "slow-reader"),
        Limit("linger_seconds", "the connection is cut behind its last reply", ""),
        Limit("drain_seconds", "what still runs at a restart is cut", "drained"),
    ),
    "How many, and how much": (
        Limit("max_connections", "503", "max-connections"),
        Limit("connections_per_address", "429", "address-connections"),
        Limit("connections_per_tunnel", "503", "tunnel-connections"),
        Limit("max_held_bytes", "503 for new requests, until a tenth is free again", "held-bytes"),
        Limit(
            "max_loop_lag_seconds", "503 for a part of new requests, which grows while it lasts", "loop-lag"
        ),
        Limit(
            "session_held_bytes", "the stream that holds most is reset: 503, or a visible cut", "overloaded"
        ),
        Limit("stream_window_bytes", "the agent sends no more until the visitor took some", ""),
    ),
    "Connections before their first request": (
        Limit("hello_seconds", "TLS alert; of an agent's hello: the connection closes", "hello-timeout"),
        Limit("handshake_seconds", "the connection closes", "handshake-timeout"),
        Limit("max_handshakes", "newcomers wait; who owes its hello longest makes room", "crowded"),
        Limit("handshakes_per_address", "the connection closes", "address-handshakes"),
        Limit("unknown_names_per_minute", "TLS alert unrecognized_name", "unknown-names"),
        Limit("rejections_per_minute", "hellos are refused with a time to wait", "rate-limited"),
    ),
    "WebSockets": (
        Limit("websocket_pings_per_second", "close code 1008", "ping-flood"),
        Limit("websocket_ping_seconds", "cut after two pings without a sign of life", "visitor-silent"),
        Limit("websocket_drain_seconds", "close code 1012 at a restart", "draining"),
    ),
    "HTTP/2": (
        Limit("h2_max_streams", "REFUSED_STREAM", "h2-streams"),
        Limit("h2_max_running", "REFUSED_STREAM", "h2-streams"),
        Limit("h2_linger_seconds", "a request that was reset counts no longer", ""),
        Limit("h2_resets", "GOAWAY ENHANCE_YOUR_CALM", "h2-rapid-reset"),
        Limit("h2_resets_per_second", "GOAWAY ENHANCE_YOUR_CALM", "h2-rapid-reset"),
        Limit("h2_early_reset_percent", "GOAWAY ENHANCE_YOUR_CALM", "h2-rapid-reset"),
        Limit("h2_early_reset_seconds", "a reset is no early one", ""),
        Limit("h2_early_reset_streams", "the part of early resets is judged", "h2-rapid-reset"),
        Limit("h2_violations", "GOAWAY ENHANCE_YOUR_CALM", "h2-made-you-reset"),
        Limit("h2_violations_per_second", "GOAWAY ENHANCE_YOUR_CALM", "h2-made-you-reset"),
        Limit("h2_max_continuations", "GOAWAY ENHANCE_YOUR_CALM", "h2-continuation-flood"),
        Limit("h2_max_block_bytes", "GOAWAY ENHANCE_YOUR_CALM", "h2-continuation-flood"),
        Limit("h2_max_list_bytes", "431", "h2-header-list"),
        Limit("h2_max_decoded_bytes", "GOAWAY ENHANCE_YOUR_CALM", "h2-hpack-bomb"),
        Limit("h2_max_fields", "GOAWAY ENHANCE_YOUR_CALM", "h2-hpack-bomb"),
        Limit("h2_settings_per_second", "GOAWAY ENHANCE_YOUR_CALM", "h2-settings-flood"),
        Limit("h2_pings_per_second", "GOAWAY ENHANCE_YOUR_CALM", "h2-ping-flood"),
        Limit("h2_max_control_replies", "GOAWAY ENHANCE_YOUR_CALM", "h2-control-replies"),
        Limit("h2_max_empty_frames", "GOAWAY ENHANCE_YOUR_CALM", "h2-empty-frames"),
        Limit("h2_empty_frames_per_second", "GOAWAY ENHANCE_YOUR_CALM", "h2-empty-frames"),
        Limit("h2_max_glitches", "GOAWAY ENHANCE_YOUR_CALM", "h2-glitches"),
        Limit("h2_window_bytes", "RST_STREAM FLOW_CONTROL_ERROR", "h2-made-you-reset"),
        Limit("h2_connection_window_bytes", "GOAWAY FLOW_CONTROL_ERROR", "h2-window"),
        Limit("h2_max_held_bytes", "RST_STREAM ENHANCE_YOUR_CALM of the fullest stream", "h2-held"),
        Limit("h2_stall_bytes", "RST_STREAM CANCEL; GOAWAY where every stream stalls", "h2-stalled"),
        Limit("h2_preface_seconds", "GOAWAY PROTOCOL_ERROR", "h2-preface"),
        Limit("h2_settings_seconds", "GOAWAY SETTINGS_TIMEOUT", "h2-settings-timeout"),
        Limit("h2_goaway_seconds", "the second GOAWAY, with the last stream that is served", ""),
        Limit("h2_max_age_seconds", "GOAWAY NO_ERROR in two steps", ""),
    ),
    "Sessions of agents": (
        Limit("ping_seconds", "the agent is asked whether it lives", ""),
        Limit("ping_timeout_seconds", "the session ends, its requests get 503", "agent-lost"),
    ),
    "The server itself": (Limit("loop_stall_seconds", "a log line `loop stands still` with the stack", ""),),
    "The REST API": (
        Limit("max_api_body_bytes", "413", "api-body"),
        Limit("api_reply_seconds", "503", "api-unavailable"),
        Limit("api_requests_per_key_per_minute", "429 with Retry-After", "api-rate"),
        Limit("api_requests_per_address_per_minute", "429 with Retry-After", "api-rate"),
        Limit("api_failures_per_address_per_minute", "429 with Retry-After", "api-rate"),
        Limit("tunnels_per_organization", "429 with Retry-After", "api-rate"),
        Limit("keys_per_organization", "429 with Retry-After", "api-rate"),
        Limit("history_days", "the record is pruned", ""),
    ),
}

_FIXED = (
    "| what | bound | beyond | reason |",
    "|---|---|---|---|",
    "| HTTP/2 PRIORITY frames | 100 × (1 + streams there were) | GOAWAY ENHANCE_YOUR_CALM"
    " | `h2-priority-flood` |",
    "| HTTP/2 WINDOW_UPDATE frames | 5 + 2 × (streams there were + 10 × DATA frames sent)"
    " | GOAWAY ENHANCE_YOUR_CALM | `h2-window-update-flood` |",
    "| streams of one agent's session | 65,536 | 503 | `overloaded` |",
    "| a request to the REST API without a live key | - | 401 | `api-key` |",
    "| a frame between edge and agent | 256 KiB | the session ends | - |",
    "| descriptors of visitors, of all | 85 %, 95 % of the open-file limit | TLS alert; accepting pauses"
    " | `descriptors` |",
)


def reference_page() -> str:
    """``docs/reference/limits.md``, printed from the settings and this table."""
    lines = [
        "# Limits",
        "",
        "Printed from `wellhead.limits` and `wellhead.settings` by `make docs`. What each setting counts, and"
        " in which unit, says [settings](settings.md).",
        "",
        'What meets a limit is counted by `wellhead_refused_total{reason="…"}` at `/metrics`, and told in'
        " the access line of the request, or, where there is no request, in a log line `connection refused`"
        " (one a second for each reason).",
        "Limits per address spare this machine's own addresses while `loopback_exempt` is on.",
    ]
    for title, limits in GROUPS.items():
        lines += ["", f"## {title}", "", "| setting | default | beyond | reason |", "|---|---|---|---|"]
        for limit in limits:
            reason = f"`{limit.reason}`" if limit.reason else "-"
            lines.append(
                f"| `{limit.setting}` | {shown_default(limit.setting)} | {limit.beyond} | {reason} |"
            )
    lines += ["", "## Fixed", "", *_FIXED, ""]
    return "\n".join(lines)


def settings_without_limit() -> set[str]:
    """Numeric settings of which this table says nothing."""
    told = {limit.setting for limits in GROUPS.values() for limit in limits}
    numbers = {
        key
        for key, field in ServerSettings.model_fields.items()
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    return numbers - told
