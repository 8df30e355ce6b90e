"""Calls about sandboxes: their life, their processes, and snapshots of them.

Source: wrenn-sandboxes, "Lifecycle and files API" and "Exec and processes".
"""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from wellhead.client.calls import Call, given, in_path, no_answer
from wellhead.client.sandbox_records import (
    Background,
    MetricPoint,
    ProcessInfo,
    SandboxInfo,
)
from wellhead.errors import InputError
from wellhead.model.ports import check_port
from wellhead.model.sandbox_records import SandboxTemplate, TemplateKind
from wellhead.model.sandboxes import SandboxStatus, check_template_name, read_host_id, read_sandbox_id
from wellhead.model.text import shown
from wellhead.model.visibility import Visibility

LIFE_SECONDS = 120.0  # a host may be busy with others before it creates, pauses or resumes


def create_sandbox(
    template: str | None = None,
    *,
    vcpus: int | None = None,
    memory_mb: int | None = None,
    disk_mb: int | None = None,
    timeout_seconds: int | None = None,
    env: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    visibility: Visibility | str | None = None,
    port_visibility: Mapping[int, Visibility | str] | None = None,
    auto_resume: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[SandboxInfo]:
    """Make a sandbox; when the call is back it runs. What is not given is the server's to choose.

    ``timeout_seconds`` without any activity pause it; 0: never. ``env`` is what every process in it sees.
    ``visibility`` says who may see its ports: ``private``, ``team`` or ``public``; ``port_visibility`` does
    so for single ones. With ``auto_resume`` a request for a port resumes it where it is paused. With an
    ``idempotency_key`` (any text that is used for this create alone) it is tried again when the answer is
    lost, and finds the sandbox that it made.

    Raises:
        InputError: no such visibility, or no such port.
        NotFound: no such template.
        Invalid, BadRequest: a value breaks a rule.
        Conflict: the organization has as many as it may.
        Unavailable: no host has room for it.
    """
    if template is not None:
        check_template_name(template)
    body = given(
        template=template,
        vcpus=vcpus,
        memory_mb=memory_mb,
        disk_size_mb=disk_mb,
        timeout_sec=timeout_seconds,
        envs=None if env is None else dict(env),
        metadata=None if metadata is None else dict(metadata),
        **_access(visibility, port_visibility, auto_resume),
    )
    return Call(
        "POST",
        "/sandboxes",
        _sandbox.validate_python,
        body=body,
        headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
        repeatable=idempotency_key is not None,
        seconds=LIFE_SECONDS,
    )


def list_sandboxes(
    *,
    status: SandboxStatus | None = None,
    template: str | None = None,
    host_id: str | None = None,
    limit: int = 1000,
) -> Call[list[SandboxInfo]]:
    """The sandboxes of the organization, the youngest first; without a ``status`` those that are not over."""
    chosen = given(
        status=None if status is None else status.value,
        template=template,
        host_id=None if host_id is None else read_host_id(host_id),
    )
    query = {name: str(value) for name, value in chosen.items()} | {"limit": str(limit)}
    return Call("GET", "/sandboxes", _sandboxes.validate_python, query=query, repeatable=True)


def get_sandbox(sandbox_id: str) -> Call[SandboxInfo]:
    """
    Raises:
        InputError: not the id of a sandbox.
        NotFound: the organization has none of this id.
    """
    return Call("GET", item(sandbox_id), _sandbox.validate_python, repeatable=True)


def update_sandbox(
    sandbox_id: str,
    *,
    timeout_seconds: int | None = None,
    metadata: Mapping[str, str] | None = None,
    visibility: Visibility | str | None = None,
    port_visibility: Mapping[int, Visibility | str | None] | None = None,
    auto_resume: bool | None = None,
) -> Call[SandboxInfo]:
    """Change what is given.

    ``visibility`` is that of the ports that have none of their own; ``port_visibility`` changes the ports
    that it names, and None takes a port's own away.

    Raises:
        InputError: no such visibility, or no such port.
        Invalid: a value breaks a rule.
        SandboxState: it is over.
    """
    body = given(
        timeout_sec=timeout_seconds,
        metadata=None if metadata is None else dict(metadata),
        **_access(visibility, port_visibility, auto_resume),
    )
    return Call("PATCH", item(sandbox_id), _sandbox.validate_python, body=body, repeatable=True)


def pause_sandbox(sandbox_id: str) -> Call[SandboxInfo]:
    """Freeze every process; memory and sockets stay.

    Raises:
        SandboxState: it does not run.
    """
    path = f"{item(sandbox_id)}/pause"
    return Call("POST", path, _sandbox.validate_python, seconds=LIFE_SECONDS)


def resume_sandbox(sandbox_id: str) -> Call[SandboxInfo]:
    """Let a paused sandbox go on.

    Raises:
        SandboxState: it is not paused.
    """
    path = f"{item(sandbox_id)}/resume"
    return Call("POST", path, _sandbox.validate_python, seconds=LIFE_SECONDS)


def ping_sandbox(sandbox_id: str) -> Call[None]:
    """Count as activity: the time until a sandbox is paused begins anew.

    Raises:
        SandboxState: it does not run.
    """
    return Call("POST", f"{item(sandbox_id)}/ping", no_answer, repeatable=True)


def destroy_sandbox(sandbox_id: str) -> Call[None]:
    """Kill every process and free everything. One that is over already is no error."""
    return Call("DELETE", item(sandbox_id), no_answer, repeatable=True, seconds=LIFE_SECONDS)


def metrics_of_sandbox(sandbox_id: str, *, range: str = "10m") -> Call[list[MetricPoint]]:
    """What it took during the last ``range``: 5m, 10m, 1h, 2h, 6h, 12h or 24h; the oldest first."""
    path = f"{item(sandbox_id)}/metrics"
    return Call("GET", path, _read_metrics, query={"range": range}, repeatable=True)


def snapshot_sandbox(sandbox_id: str, name: str | None = None) -> Call[SandboxTemplate]:
    """Keep its files as a template under ``name`` (one is made up), and let it go on.

    Raises:
        Conflict: the name is taken.
        SandboxState: it neither runs nor is paused.
    """
    if name is not None:
        check_template_name(name)
    body = given(sandbox_id=read_sandbox_id(sandbox_id), name=name)
    return Call("POST", "/snapshots", _snapshot.validate_python, body=body, seconds=LIFE_SECONDS)


def list_snapshots(*, type: TemplateKind | None = None) -> Call[list[SandboxTemplate]]:
    """What a sandbox may begin as: snapshots, and the bases of the hosts; ``type`` keeps one kind."""
    query = {} if type is None else {"type": type.value}
    return Call("GET", "/snapshots", _snapshots.validate_python, query=query, repeatable=True)


def delete_snapshot(name: str) -> Call[None]:
    """
    Raises:
        NotFound: there is none of this name.
        Forbidden: it is a template of the hosts.
    """
    return Call("DELETE", f"/snapshots/{in_path(name)}", no_answer, repeatable=True)


def start_process(
    sandbox_id: str,
    command: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    tag: str | None = None,
) -> Call[Background]:
    """Start a command that runs on by itself; a text is a line for ``sh``.

    What it writes is kept, the last 256 KiB of it. Its ``tag`` is made up where none is given.

    Raises:
        Conflict: a process that runs has this tag.
        SandboxState: the sandbox does not run.
    """
    body = given(argv=argv_of(command), env=_env(env), cwd=cwd, user=user, tag=tag, background=True)
    return Call("POST", f"{item(sandbox_id)}/exec", _background.validate_python, body=body)


def list_processes(sandbox_id: str) -> Call[list[ProcessInfo]]:
    """What was started from outside and has not exited: commands, background processes, terminals."""
    return Call("GET", f"{item(sandbox_id)}/processes", _read_processes, repeatable=True)


def kill_process(sandbox_id: str, process: int | str, signal: str = "KILL") -> Call[None]:
    """Send a signal to a process, by pid or tag: ``KILL`` hits all that it started too.

    Raises:
        InputError: no such signal.
        NotFound: no process of this pid or tag runs.
    """
    path = f"{item(sandbox_id)}/processes/{in_path(str(process))}"
    return Call("DELETE", path, no_answer, query={"signal": signal_name(signal)})


def argv_of(command: str | Sequence[str]) -> list[str]:
    """
    Raises:
        InputError: there is none.
    """
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    if not argv or not argv[-1 if isinstance(command, str) else 0]:
        raise InputError("a command is needed, there is none")
    return argv


def signal_name(given: str) -> str:
    """``SIGTERM`` of ``TERM``, ``term``, ``SIGTERM`` or ``15``.

    Raises:
        InputError: no such signal.
    """
    name = given.upper()
    try:
        if name.isascii() and name.isdigit():
            return signals.Signals(int(name)).name
        return signals.Signals["SIG" + name.removeprefix("SIG")].name
    except (ValueError, KeyError):
        raise InputError(f"{shown(given)} is not a signal, such as TERM, INT, HUP or KILL") from None


def item(sandbox_id: str) -> str:
    """The path of a sandbox.

    Raises:
        InputError: not the id of one.
    """
    return f"/sandboxes/{read_sandbox_id(sandbox_id)}"


@dataclass(frozen=True, slots=True)
class _Processes:
    processes: list[ProcessInfo]


@dataclass(frozen=True, slots=True)
class _Metrics:
    points: list[MetricPoint] = field(default_factory=list)


_sandbox = TypeAdapter(SandboxInfo)
_sandboxes = TypeAdapter(list[SandboxInfo])
_snapshot = TypeAdapter(SandboxTemplate)
_snapshots = TypeAdapter(list[SandboxTemplate])
_background = TypeAdapter(Background)
_processes = TypeAdapter(_Processes)
_metrics = TypeAdapter(_Metrics)


def _env(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if env is None else dict(env)


def _access(
    visibility: Visibility | str | None,
    ports: Mapping[int, Visibility | str | None] | None,
    auto_resume: bool | None,
) -> dict[str, object]:
    """The members of a request that say who may see ports."""
    members: dict[str, object] = {"visibility": _word(visibility), "auto_resume": auto_resume}
    if ports is not None:
        members["port_visibility"] = {str(check_port(n)): _word(of) for n, of in ports.items()}
    return members


def _word(given: Visibility | str | None) -> str | None:
    """
    Raises:
        InputError: no such visibility.
    """
    try:
        return None if given is None else Visibility(given).value
    except ValueError:
        words = ", ".join(each.value for each in Visibility)
        raise InputError(f"visibility {shown(str(given))} is none of {words}") from None


def _read_processes(answer: object) -> list[ProcessInfo]:
    return _processes.validate_python(answer).processes


def _read_metrics(answer: object) -> list[MetricPoint]:
    return _metrics.validate_python(answer).points
