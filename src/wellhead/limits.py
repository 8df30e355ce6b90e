"""What happens at each limit: the table behind ``docs/reference/limits.md``.

The bounds themselves, their defaults and what they count are the settings'; here stands what a peer above
one of them meets, and by which word log and metrics tell of it.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.settings import ServerSettings
from wellhead.settings.page import shown_default


class Limit(NamedTuple):
    """``reason``: the label in metrics and the word in log lines; "" where none is told."""

    setting: str
    beyond: str
    reason: str


def _read(table: str) -> dict[str, list[Limit]]:
    groups: dict[str, list[Limit]] = {}
    limits: list[Limit] = []
    for line in table.strip().splitlines():
        if line.startswith(" "):
            setting, beyond, reason = (part.strip() for part in line.split("|"))
            limits.append(Limit(setting, beyond, reason))
        else:
            limits = groups.setdefault(line, [])
    return groups


GROUPS = _read("""
A request's head
  max_request_line_bytes | 414, the connection closes | request-line-too-long
  max_field_bytes | 431, the connection closes | field-too-long
  max_head_bytes | 431, the connection closes | head-too-large
  max_fields | 431, the connection closes | too-many-fields
  head_seconds | 408, the connection closes | slow-request
  max_pipelined | no more is read until an answer is out |
  idle_seconds | the connection closes, or says GOAWAY |
A request's body
  max_chunk_extension_bytes | 400, the connection closes | chunk-extension
  max_trailer_bytes | 400, the connection closes | trailers-too-large
  body_idle_seconds | 408, the connection closes | slow-request
  body_min_bytes_per_second | 408, the connection closes | slow-request
  body_grace_seconds | the speed is judged | slow-request
  max_unread_bytes | the connection closes behind the answer |
  unread_seconds | the connection closes behind the answer |
A reply
  max_reply_head_bytes | 502 | reply-head-too-large
  max_interim_heads | 502 | too-many-interim
  reply_seconds | 504 | deadline
  grpc_silent_seconds | 504; 408 where the call's own message is missing | deadline
  sandbox_reply_seconds | 504 | deadline
  half_close_seconds | the connection closes | visitor-left
  write_idle_seconds | the connection is cut; a WebSocket gets close code 1013 | slow-reader
  linger_seconds | the connection is cut behind its last reply |
  drain_seconds | what still runs at a restart is cut | drained
A connection of a passthrough tunnel
  passthrough_idle_seconds | the connection closes | idle
  passthrough_half_close_seconds | the connection closes | half-close
  passthrough_linger_seconds | the connection closes; with unread bytes it is reset |
How many, and how much
  max_connections | 503 | max-connections
  connections_per_address | 429 | address-connections
  connections_per_tunnel | 503 | tunnel-connections
  max_held_bytes | 503 for new requests, until a tenth is free again | held-bytes
  max_loop_lag_seconds | 503 for a part of new requests, which grows while it lasts | loop-lag
  session_held_bytes | the stream that holds most is reset: 503, or a visible cut | overloaded
  stream_window_bytes | the agent sends no more until the visitor took some |
Connections before their first request
  hello_seconds | TLS alert; of an agent's hello: the connection closes | hello-timeout
  handshake_seconds | the connection closes | handshake-timeout
  max_handshakes | newcomers wait; who owes its hello longest makes room | crowded
  handshakes_per_address | the connection closes | address-handshakes
  unknown_names_per_minute | TLS alert unrecognized_name | unknown-names
  port_names_per_minute | as a name that no tunnel has | unknown-names
  rejections_per_minute | hellos are refused with a time to wait | rate-limited
WebSockets
  websocket_pings_per_second | close code 1008 | ping-flood
  websocket_ping_seconds | cut after two pings without a sign of life | visitor-silent
  websocket_drain_seconds | close code 1012 at a restart | draining
HTTP/2
  h2_max_streams | REFUSED_STREAM | h2-streams
  h2_max_running | REFUSED_STREAM | h2-streams
  h2_linger_seconds | a request that was reset counts no longer |
  h2_resets | GOAWAY ENHANCE_YOUR_CALM | h2-rapid-reset
  h2_resets_per_second | GOAWAY ENHANCE_YOUR_CALM | h2-rapid-reset
  h2_early_reset_percent | GOAWAY ENHANCE_YOUR_CALM | h2-rapid-reset
  h2_early_reset_seconds | a reset is no early one |
  h2_early_reset_streams | the part of early resets is judged | h2-rapid-reset
  h2_violations | GOAWAY ENHANCE_YOUR_CALM | h2-made-you-reset
  h2_violations_per_second | GOAWAY ENHANCE_YOUR_CALM | h2-made-you-reset
  h2_max_continuations | GOAWAY ENHANCE_YOUR_CALM | h2-continuation-flood
  h2_max_block_bytes | GOAWAY ENHANCE_YOUR_CALM | h2-continuation-flood
  h2_max_list_bytes | 431 | h2-header-list
  h2_max_decoded_bytes | GOAWAY ENHANCE_YOUR_CALM | h2-hpack-bomb
  h2_max_fields | GOAWAY ENHANCE_YOUR_CALM | h2-hpack-bomb
  h2_settings_per_second | GOAWAY ENHANCE_YOUR_CALM | h2-settings-flood
  h2_pings_per_second | GOAWAY ENHANCE_YOUR_CALM | h2-ping-flood
  h2_max_control_replies | GOAWAY ENHANCE_YOUR_CALM | h2-control-replies
  h2_max_empty_frames | GOAWAY ENHANCE_YOUR_CALM | h2-empty-frames
  h2_empty_frames_per_second | GOAWAY ENHANCE_YOUR_CALM | h2-empty-frames
  h2_max_glitches | GOAWAY ENHANCE_YOUR_CALM | h2-glitches
  h2_window_bytes | RST_STREAM FLOW_CONTROL_ERROR | h2-made-you-reset
  h2_connection_window_bytes | GOAWAY FLOW_CONTROL_ERROR | h2-window
  h2_max_held_bytes | RST_STREAM ENHANCE_YOUR_CALM of the fullest stream | h2-held
  h2_stall_bytes | RST_STREAM CANCEL; GOAWAY where every stream stalls | h2-stalled
  h2_preface_seconds | GOAWAY PROTOCOL_ERROR | h2-preface
  h2_settings_seconds | GOAWAY SETTINGS_TIMEOUT | h2-settings-timeout
  h2_goaway_seconds | the second GOAWAY, with the last stream that is served |
  h2_max_age_seconds | GOAWAY NO_ERROR in two steps |
An agent on the HTTP/2 carrier, whose connection has ten times the rates above
  h2_carrier_pool | told to the agent |
  h2_carrier_idle_seconds | an intake is answered without an envelope |
  h2_carrier_wait_seconds | 503 | no-slot
  h2_carrier_max_waiting | 503 | no-slot
  h2_carrier_deadline_seconds | 504, 2 s later | deadline
  h2_carrier_max_body_bytes | 413 | body-too-large
  h2_carrier_max_message_bytes | a WebSocket gets close code 1009 | message-too-big
  h2_carrier_bind_seconds | 504; a connection is cut | deadline
  h2_carrier_takeovers_per_minute | 429 to the hello | quota
  h2_carrier_max_streams | REFUSED_STREAM | h2-streams
  h2_carrier_window_bytes | RST_STREAM FLOW_CONTROL_ERROR | h2-made-you-reset
  h2_carrier_connection_window_bytes | GOAWAY FLOW_CONTROL_ERROR | h2-window
Sessions of agents
  ping_seconds | the agent is asked whether it lives |
  ping_timeout_seconds | the session ends, its requests get 503 | agent-lost
Certificates
  acme_account_key_days | the account's key is changed before the next order |
  acme_order_seconds | the order fails, and is taken up again later | issuer-slow
  dns_wait_seconds | the order fails, its record is removed, and it is tried again later | dns-wait
The server itself
  loop_stall_seconds | a log line `loop stands still` with the stack |
  tls_reload_seconds | files of certificates are looked at again |
The REST API
  max_api_body_bytes | 413 | api-body
  api_reply_seconds | 503 | api-unavailable
  api_requests_per_key_per_minute | 429 with Retry-After | api-key-rate
  api_requests_per_address_per_minute | 429 with Retry-After | api-address-rate
  api_failures_per_address_per_minute | 429 with Retry-After | api-failures
  tunnels_per_organization | 429 with Retry-After | api-tunnels
  keys_per_organization | 429 with Retry-After | api-keys
  csr_per_tunnel_per_hour | 429 with Retry-After | csr-rate
  issue_budget_per_name_per_week | 429 with Retry-After | issue-budget-name
  issue_budget_per_organization_per_week | 429 with Retry-After | issue-budget-organization
  issue_budget_per_week | 429 with Retry-After | issue-budget
  local_certificate_days | the certificate is over: the agent has the next one before |
  history_days | the record is pruned |
Ports of sandboxes
  exchanges_per_sandbox | 503 | sandbox-exchanges
  sandbox_resume_seconds | 503 with Retry-After | sandbox-resuming
  sandbox_resume_waiting | 503 with Retry-After | sandbox-resuming
Sandboxes in the REST API
  sandboxes_per_organization | 429 with Retry-After | api-sandboxes
  snapshots_per_organization | 429 with Retry-After | api-snapshots
  hosts_per_organization | 429 with Retry-After | api-hosts
  max_sandbox_vcpus | 422 `invalid_request` |
  max_sandbox_memory_mb | 422 `invalid_request` |
  max_sandbox_disk_mb | 422 `invalid_request` |
  sandbox_link_seconds | the link is good no more: 401 at the port |
  sandbox_link_max_seconds | 422 `invalid_request` |
  host_call_seconds | 503 `host_unavailable`; what was begun is taken back |
  host_snapshot_seconds | 503 `host_unavailable`; the sandbox is as it was |
  host_away_seconds | the host is `unreachable` and its sandboxes are `missing`, until it is back |
  host_silent_seconds | the same |
A host and its sandboxes
  host_max_sandboxes | 503 `no_hosts_available` |
  host_memory_mb | 503 `no_hosts_available` |
  host_max_vcpus | 400 `invalid_request` |
  host_max_memory_mb | 400 `invalid_request` |
  host_max_disk_mb | 400 `invalid_request` |
  host_pids_max | no more processes can be begun inside |
  host_egress_bytes_per_second | what leaves a sandbox waits, or is lost as on a slow line |
  host_egress_burst_bytes | the bound above holds |
  host_upload_bytes | 413 `too_large` |
  host_stream_upload_bytes | 413 `too_large` |
  host_exec_output_bytes | an error; the command is ended |
  host_exec_outputs_bytes | 503 `no_hosts_available`; the command is ended |
  host_port_connections | 503 | port-connections
  host_port_retry_seconds | 502 |
  host_port_dial_seconds | 504 |
  host_port_reply_seconds | 504 |
  host_port_idle_seconds | the connection closes |
  host_report_seconds | the host reports again |
""")
"""Title -> limits. Indented lines: setting | what happens beyond it | reason."""

_FIXED = (
    "| what | bound | beyond | reason |",
    "|---|---|---|---|",
    "| HTTP/2 PRIORITY frames | 100 × (1 + streams there were) | GOAWAY ENHANCE_YOUR_CALM"
    " | `h2-priority-flood` |",
    "| HTTP/2 WINDOW_UPDATE frames | 5 + 2 × (streams there were + 10 × DATA frames sent)"
    " | GOAWAY ENHANCE_YOUR_CALM | `h2-window-update-flood` |",
    "| streams of one agent's session | 65,536 | 503 | `overloaded` |",
    "| connections of one agent to its upstream | 4,096 | 503 | `overloaded` |",
    "| unfinished TLS handshakes in an agent; of one address | 500; 20 | TLS alert internal_error"
    " | `overloaded` |",
    "| a certificate for a name whose last order failed | 2 min, doubled up to 6 h | 429 with Retry-After"
    " | `issue-pause` |",
    "| a request to be signed | 16 KiB | 400 | - |",
    "| a request to the REST API without a live key | - | 401 | `api-key` |",
    "| a frame between edge and agent | 256 KiB | the session ends | - |",
    "| a name of ours without a certificate, where `issuer` is not `local` | - | TLS alert internal_error"
    " | `no-certificate` |",
    "| a sandbox's port, where `issuer` is not `local` and no certificate is for `*.{domain}` (none is"
    " ordered) | - | TLS alert internal_error | `no-certificate` |",
    "| a certificate authority's question that nobody here asked for | - | 404; TLS alert"
    " no_application_protocol | `no-challenge`, `acme-alpn` |",
    "| answers to certificate authorities at once | 1000, an hour each | the oldest is forgotten | - |",
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
        "A visitor of a passthrough tunnel gets a TLS alert in place of a status: `internal_error` where"
        " trying again may help.",
        "A 429 of the REST API has that word in its field `X-Limit`.",
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
