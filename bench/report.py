"""Samples into tables: medians with the least and the most of all rounds, and ratios taken round by round."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from bench import report_ports
from bench.ground import Route
from bench.tables import Run, middle, spread, table

VISITORS = {"closed": "16 in a closed loop", "fixed": "2,000 requests/s"}
LOUD = 0.3  # CPUs used by others: such a sample says more about them
CHAIN, NODE, PRODUCT = "nginx-2hop", "localtunnel", "wellhead"
CHAIN_HTTP2, PRODUCT_TLS = "nginx-2hop-h2", "wellhead-tls"
STREAM, SSH, PRODUCT_RAW = "nginx-stream", "ssh-R-raw", "wellhead-raw"
CARRIER, CARRIER_OTHER = "carrier-mux", "carrier-h2"
URL, ASGI, HANDLER = "uvicorn-url", "asgi-run", "handler-run"
_SANDBOX_TARGETS = "wellhead-sandbox", "ssh", "subprocess"
_SANDBOX_ROWS = (
    ("create", "p50", "create, ms p50", 0),
    ("create", "p99", "create, ms p99", 0),
    ("create", "destroy", "destroy, ms p50", 0),
    ("exec", "p50", "exec /bin/true, ms p50", 2),
    ("exec", "p99", "exec /bin/true, ms p99", 2),
    ("echo", "p50", "keystroke echo, ms p50", 3),
    ("echo", "p99", "keystroke echo, ms p99", 3),
    ("files", "up", "file in, MB/s", 0),
    ("files", "down", "file out, MB/s", 0),
    ("crowd", "created", "100 on one host, created/s", 1),
    ("crowd", "destroyed", "100 on one host, destroyed/s", 1),
    ("crowd", "mib", "100 on one host, MiB of ours each", 1),
    ("crowd", "p50", "100 on one host, exec in turn, ms p50", 2),
    ("crowd", "p99", "100 on one host, exec in turn, ms p99", 2),
)
PASSTHROUGH_CELLS = ("1 flow", "4 flows", "connections")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cpus": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def as_json(run: Run) -> str:
    """Everything measured, for other programs."""
    return json.dumps(
        {
            "machine": run.machine,
            "options": asdict(run.options),
            "targets": [
                {
                    "name": route.name,
                    "visitor": route.visitor,
                    "carrier": route.carrier,
                    "limits": route.limits,
                }
                for route in run.routes
            ],
            "skipped": run.skipped,
            "samples": [asdict(sample) for sample in run.samples],
        },
        indent=1,
    )


def as_markdown(run: Run) -> str:
    """All tables that have rows."""
    sections = [
        ("", _targets(run)),
        ("Goals", _goals(run)),
        *(_request_sections(run)),
        *(_http2_sections(run)),
        ("One connection, everything on one CPU", _latency(run)),
        ("New connections, 64 at a time (one request each)", _connections(run)),
        ("Bulk, MB/s", _bulk(run)),
        ("TLS that ends at the upstream", _passthrough(run)),
        *_beside_sections(run, "Agents' carriers", "carrier", CARRIER),
        *_beside_sections(run, "Answers in the agent's process", "inprocess", URL),
        ("Server-sent events, µs", _events(run)),
        ("Memory, MiB", _memory(run)),
        ("Idle agents, growth of the server's PSS", _idle(run)),
        (f"Control plane, {run.options.tunnels:,} tunnels, alone and beside visitors", _control(run)),
        ("What visitors feel of it", _beside(run)),
        ("Sandboxes", _sandboxes(run)),
        ("Terminals and commands beside the traffic of ports", report_ports.beside(run)),
        ("Requests of ports", report_ports.requests(run)),
    ]
    text = [_preamble(run)]
    text += [f"### {title}\n\n{table}" if title else table for title, table in sections if table]
    failures = sorted({f"- {s.target}, {s.group} {s.cell}: {s.error}" for s in run.samples if s.error})
    text += ["### Failed\n\n" + "\n".join(failures)] if failures else []
    return "\n\n".join(text) + "\n"


def _preamble(run: Run) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in run.machine.items())
    foreign = [sample.figures["foreign"] for sample in run.samples if "foreign" in sample.figures]
    noise = "not measured"
    if foreign:
        loud = sum(share > LOUD for share in foreign)
        noise = f"{statistics.median(foreign):.2f}, over {LOUD} in {loud} of {len(foreign)} samples"
    return (
        f"Machine: {facts}. {run.options.rounds} rounds of {run.options.seconds} s, targets interleaved; "
        f"median [least-most]; ratios are taken within each round. CPUs used by other programs: {noise}."
    )


def _targets(run: Run) -> str:
    rows = [[route.name, route.visitor, route.carrier, route.limits] for route in run.routes]
    rows += [[name, "–", "–", f"skipped: {reason}"] for name, reason in run.skipped.items()]
    return table("target | visitor leg | carrier leg | raised or switched off", rows)


def _legs(route: Route) -> str:
    return f"{route.name} ({route.visitor}, {route.carrier})"


def _rows(run: Run, cell: str, columns: Callable[[Route], list[str]]) -> Iterator[list[str]]:
    """A row for each target that has samples in this cell."""
    for route in run.routes:
        if any(s.target == route.name and f"{s.group} {s.cell}" == cell for s in run.samples):
            yield [_legs(route), *columns(route)]


def _against(run: Run, route: Route, cell: str, others: tuple[str, ...] = (CHAIN, NODE)) -> list[str]:
    """The ratios to the proxy chain and to localtunnel."""
    return [middle(run.ratios(route.name, other, cell, "rate"), 2) for other in others]


_REQUEST_HEAD = (
    "target (visitor, carrier) | requests/s | p50 µs | p99 µs | edge CPU µs/request | agent CPU"
    " | failed | refused"
)


def _request_sections(run: Run) -> list[tuple[str, str]]:
    return [
        (
            f"Requests, keep-alive, {cell}",
            table(
                f"{_REQUEST_HEAD} | x {CHAIN} | x {NODE}",
                _rows(run, f"requests {cell}", _request_columns(run, cell)),
            ),
        )
        for cell in run.cells("requests")
    ]


def _http2_sections(run: Run) -> list[tuple[str, str]]:
    return [
        (
            f"HTTP/2 over TLS, {cell} each",
            table(
                f"{_REQUEST_HEAD} | x {CHAIN_HTTP2}",
                _rows(run, f"http2 {cell}", _request_columns(run, cell, "http2", (CHAIN_HTTP2,))),
            ),
        )
        for cell in run.cells("http2")
    ]


def _beside_sections(run: Run, title: str, group: str, other: str) -> list[tuple[str, str]]:
    return [
        (
            f"{title}, {cell}",
            table(
                f"{_REQUEST_HEAD} | x {other}",
                _rows(run, f"{group} {cell}", _request_columns(run, cell, group, (other,))),
            ),
        )
        for cell in run.cells(group)
    ]


def _request_columns(
    run: Run, cell: str, group: str = "requests", others: tuple[str, ...] = (CHAIN, NODE)
) -> Callable[[Route], list[str]]:
    place = f"{group} {cell}"

    def columns(route: Route) -> list[str]:
        def values(figure: str) -> Iterable[float]:
            return run.values(route.name, place, figure).values()

        return [
            spread(values("rate")),
            middle(values("p50")),
            middle(values("p99")),
            middle(values("edge_cpu"), 1),
            middle(values("agent_cpu"), 1),
            f"{sum(values('failed')):.0f}",
            f"{sum(values('refused')):.0f}",
            *_against(run, route, place, others),
        ]

    return columns


def _latency(run: Run) -> str:
    cell = "latency c=1 on one CPU"

    def columns(route: Route) -> list[str]:
        added, chain = run.added(route.name), run.added(CHAIN)
        shares = [added[number] / chain[number] for number in added if chain.get(number, 0) > 0]
        return [
            spread(run.values(route.name, cell, "p50").values()),
            middle(run.values(route.name, cell, "p99").values()),
            spread(added.values()),
            middle(shares, 2),
        ]

    return table(
        f"target (visitor, carrier) | p50 µs | p99 µs | added p50 µs | x {CHAIN}", _rows(run, cell, columns)
    )


def _connections(run: Run) -> str:
    head = (
        "target (visitor, carrier) | connections/s | p50 µs | p99 µs | edge CPU µs | agent CPU µs"
        " | failed | refused"
    )
    rows = _rows(run, "connections c=64", _request_columns(run, "c=64", "connections"))
    return table(f"{head} | x {CHAIN} | x {NODE}", rows)


def _bulk(run: Run) -> str:
    def columns(route: Route) -> list[str]:
        found: list[str] = []
        for cell in ("bulk 1 stream", "bulk 4 streams"):
            found += [spread(run.values(route.name, cell, "rate").values()), *_against(run, route, cell)[:1]]
        for figure in ("edge_cpu", "agent_cpu"):
            found.append(middle(run.values(route.name, "bulk 4 streams", figure).values(), 2))
        return found

    head = f"1 stream | x {CHAIN} | 4 streams | x {CHAIN} | edge CPU s/GB (4) | agent CPU s/GB (4)"
    return table(f"target (visitor, carrier) | {head}", _rows(run, "bulk 1 stream", columns))


def _passthrough(run: Run) -> str:
    def columns(route: Route) -> list[str]:
        found: list[str] = []
        for cell in PASSTHROUGH_CELLS:
            place = f"passthrough {cell}"
            found.append(spread(run.values(route.name, place, "rate").values()))
            found += _against(run, route, place, (STREAM, SSH))
        for cell in PASSTHROUGH_CELLS[1:]:
            for figure in ("edge_cpu", "agent_cpu"):
                values = run.values(route.name, f"passthrough {cell}", figure).values()
                found.append(middle(values, 2 if cell == "4 flows" else 0))
        return found

    each = " | ".join(
        f"{what} | x {STREAM} | x {SSH}" for what in ("MB/s, 1 flow", "MB/s, 4 flows", "connections/s")
    )
    used = "edge CPU s/GB | agent | edge CPU µs/connection | agent"
    return table(f"target (visitor, carrier) | {each} | {used}", _rows(run, "passthrough 1 flow", columns))


def _events(run: Run) -> str:
    def columns(route: Route) -> list[str]:
        return [
            spread(run.values(route.name, "sse events", figure).values())
            for figure in ("first", "p50", "worst")
        ]

    head = "target (visitor, carrier) | request to first event | later events, p50 | worst"
    return table(head, _rows(run, "sse events", columns))


def _memory(run: Run) -> str:
    def columns(route: Route) -> list[str]:
        return [
            middle(run.values(route.name, f"memory {when}", figure).values(), 1)
            for when in ("idle", "after load")
            for figure in ("edge_rss", "edge_pss", "agent_rss", "agent_pss")
        ]

    head = "edge RSS idle | edge PSS idle | agent RSS idle | agent PSS idle"
    return table(
        f"target (visitor, carrier) | {head} | {head.replace('idle', 'after load')}",
        _rows(run, "memory idle", columns),
    )


def _idle(run: Run) -> str:
    rows = [
        [sample.target, f"{sample.figures['agents']:.0f}", f"{sample.figures['kib']:.1f}"]
        for sample in run.samples
        if sample.group == "idle" and sample.figures
    ]
    return table("target | idle agents | KiB each", rows)


def _sandboxes(run: Run) -> str:
    """A row for each figure, with the others' beside it."""
    rows = []
    for cell, figure, what, digits in _SANDBOX_ROWS:
        each = [run.values(name, f"sandbox {cell}", figure) for name in _SANDBOX_TARGETS]
        if each[0]:
            ratios = run.ratios(_SANDBOX_TARGETS[0], _SANDBOX_TARGETS[1], f"sandbox {cell}", figure)
            rows.append(
                [what, *(spread(values.values(), digits=digits) for values in each), middle(ratios, 2)]
            )
    return table("what | sandbox | ssh to this machine | a process of this machine | x ssh", rows)


def _control(run: Run) -> str:
    def values(cell: str, figure: str) -> Iterable[float]:
        return run.values(PRODUCT, f"control {cell}", figure).values()

    rows = [
        [
            cell,
            spread(values(cell, "rate"), digits=1),
            middle(values(cell, "p50"), 1),
            middle(values(cell, "p99"), 1),
            middle(values(cell, "edge_cpu"), 2),
        ]
        for cell in run.cells("control")
        if list(values(cell, "rate"))
    ]
    calls = "calls | per second | p50 ms | p99 ms | server CPU ms each"
    return table(calls, rows)


def _beside(run: Run) -> str:
    def row(cell: str, visitors: str) -> list[str]:
        def values(when: str, figure: str) -> Iterable[float]:
            return run.values(PRODUCT, f"control {cell}", f"{when}_{visitors}_{figure}").values()

        columns = [
            cell,
            VISITORS[visitors],
            middle(values("quiet", "p99")),
            middle(values("quiet", "rate")),
        ]
        for when in ("steady", "full"):
            columns += [
                middle(values(when, "calls"), 1),
                middle(values(when, "p99")),
                spread(_slowdowns(run, cell, visitors, when), digits=2),
                middle(values(when, "rate")),
                middle(values(when, "late")),
            ]
        return columns

    beside = "calls/s | p99 µs | x quiet | requests/s | our own lateness, p99 µs"
    return table(
        "calls | visitors | quiet: p99 µs | requests/s"
        f" | at a steady rate: {beside} | at full speed: {beside}",
        [
            row(cell, visitors)
            for cell in run.cells("control")
            if run.values(PRODUCT, f"control {cell}", "rate")
            for visitors in VISITORS
        ],
    )


def _slowdowns(run: Run, cell: str, visitors: str, when: str) -> list[float]:
    """Visitors' p99 beside the calls over their p99 alone, round by round."""
    quiet = run.values(PRODUCT, f"control {cell}", f"quiet_{visitors}_p99")
    beside = run.values(PRODUCT, f"control {cell}", f"{when}_{visitors}_p99")
    return [beside[number] / quiet[number] for number in beside if quiet.get(number)]


def _goals(run: Run) -> str:
    """The bounds the product is held to."""
    ours = (PRODUCT, PRODUCT_TLS, PRODUCT_RAW, CARRIER_OTHER, ASGI)
    if not any(sample.target in ours for sample in run.samples):
        return ""
    rows: list[list[str]] = []

    def goal(text: str, values: Iterable[float], bound: float, at_least: bool = True) -> None:
        if found := list(values):
            middle = statistics.median(found)
            met = middle >= bound if at_least else middle <= bound
            rows.append(
                [
                    text,
                    f"{'>=' if at_least else '<='} {bound:g}",
                    spread(found, digits=2),
                    "yes" if met else "no",
                ]
            )

    for fields in (1, 12):
        cell = f"requests c=64 headers={fields}"
        goal(f"requests/s at 64, {fields} headers, x {CHAIN}", run.ratios(PRODUCT, CHAIN, cell, "rate"), 0.85)
        goal(f"requests/s at 64, {fields} headers, x {NODE}", run.ratios(PRODUCT, NODE, cell, "rate"), 8)
    for cell in run.cells("http2"):
        rates = run.ratios(PRODUCT_TLS, CHAIN_HTTP2, f"http2 {cell}", "rate")
        goal(f"HTTP/2 requests/s, {cell}, x {CHAIN_HTTP2}", rates, 0.4)
        cpu = run.values(PRODUCT_TLS, f"http2 {cell}", "edge_cpu").values()
        goal(f"HTTP/2 edge CPU µs/request, {cell}", cpu, 60, at_least=False)
    for cell in ("bulk 1 stream", "bulk 4 streams"):
        goal(f"{cell}, x {CHAIN}", run.ratios(PRODUCT, CHAIN, cell, "rate"), 0.6)
    for cell in PASSTHROUGH_CELLS:
        place = f"passthrough {cell}"
        goal(f"{place}, x {STREAM}", run.ratios(PRODUCT_RAW, STREAM, place, "rate"), 0.8)
        goal(f"{place}, x {SSH}", run.ratios(PRODUCT_RAW, SSH, place, "rate"), 1)
    goal(
        f"{CARRIER_OTHER}, requests/s at 64",
        run.values(CARRIER_OTHER, "carrier c=64", "rate").values(),
        15_000,
    )
    cpu = run.values(CARRIER_OTHER, "carrier c=64", "edge_cpu").values()
    goal(f"{CARRIER_OTHER}, edge CPU µs/request at 64", cpu, 35, at_least=False)
    for word in ("failed", "refused"):
        values = run.values(CARRIER_OTHER, "carrier c=256", word).values()
        goal(f"{CARRIER_OTHER}, {word} at 256", values, 0, at_least=False)
    for target, bound in ((ASGI, 0.8), (HANDLER, 1.2)):
        goal(f"{target}, requests/s at 64, x {URL}", run.ratios(target, URL, "inprocess c=64", "rate"), bound)
    mine, chain = run.added(PRODUCT), run.added(CHAIN)
    shares = [mine[number] / chain[number] for number in mine if chain.get(number, 0) > 0]
    goal(f"added p50 at one connection, x {CHAIN}", shares, 4, at_least=False)
    idle = [s.figures["kib"] for s in run.samples if s.target == PRODUCT and s.group == "idle" and s.figures]
    goal("KiB per idle agent over TLS", idle, 45, at_least=False)
    for cell in run.cells("control"):
        for visitors, text in VISITORS.items():
            slower = _slowdowns(run, cell, visitors, "steady")
            goal(
                f"p99 of visitors, {text}, beside {cell} at a steady rate, x quiet", slower, 2, at_least=False
            )
    for each in report_ports.goals(run):
        goal(*each)
    return table("goal | bound | measured | met", rows)
