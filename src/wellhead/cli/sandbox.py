"""``wellhead sandbox``: machines of one's own for an hour, their commands, terminals and files."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import sandbox_ports
from wellhead.cli.asking import Ask, asks, sandbox_of
from wellhead.cli.completion import sandbox_ids
from wellhead.cli.consent import ask_first
from wellhead.cli.hints import hint_on
from wellhead.cli.options import Yes
from wellhead.cli.sandbox_options import AutoResume, Command, Cwd, Env, Label, SandboxName, Seen, User
from wellhead.cli.table import columns, facts, when
from wellhead.errors import InputError, NotFound, SandboxState
from wellhead.model.text import escape, shown

if TYPE_CHECKING:
    from wellhead.client.sandbox_records import SandboxInfo

app = typer.Typer(
    help="Make sandboxes, work in them, and share their ports.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FIRST = {"allow_interspersed_args": False}  # what comes after the id belongs to the command


@app.command("create")
@asks
def create_sandbox(
    ask: Ask,
    template: Annotated[
        str | None,
        typer.Argument(metavar="TEMPLATE", help="What it begins as.  [default: minimal-ubuntu]"),
    ] = None,
    vcpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processors.  [default: 1]")] = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MB", min=1, help="Memory, in megabytes.  [default: 512]")
    ] = None,
    disk: Annotated[
        int | None, typer.Option(metavar="MB", min=1, help="Disk, in megabytes.  [default: 5120]")
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS", min=0, help="Pause it after so long without any activity.  [default: never]"
        ),
    ] = None,
    env: Env = None,
    label: Label = None,
    visibility: Seen = None,
    auto_resume: AutoResume = None,
) -> None:
    """Make a sandbox. It runs when this is back."""
    with ask.open() as server:
        made = server.sandboxes.create(
            template,
            vcpus=vcpus,
            memory_mb=memory,
            disk_mb=disk,
            timeout_seconds=timeout,
            env=environment(env) or None,
            metadata=_pairs("--label", label) or None,
            visibility=visibility,
            auto_resume=auto_resume,
            idempotency_key=secrets.token_urlsafe(16),  # so that a lost answer can be asked for again
        )
    lines = [*described(made.info), "", f"wellhead sandbox shell {made.id}"]
    ask.tell(made.info, lines, [made.id])


@app.command("list")
@asks
def list_sandboxes(ask: Ask) -> None:
    """List the sandboxes that are not over, the youngest first."""
    with ask.open() as server:
        infos = [sandbox.info for sandbox in server.sandboxes.list()]
    rows = [
        (info.id, info.status.value, info.template, _size(info), when(info.created_at) or "")
        for info in infos
    ]
    lines = columns(("ID", "STATUS", "TEMPLATE", "SIZE", "CREATED"), rows) if rows else ["no sandboxes"]
    ask.tell(infos, lines, [escape(info.id) for info in infos])


@app.command("info")
@asks
def show_sandbox(ask: Ask, sandbox: SandboxName) -> None:
    """Show a sandbox, also one that is over."""
    with ask.open() as server:
        info = sandbox_of(server, sandbox).info
    ask.tell(info, described(info), [info.status.value])


@app.command("update")
@asks
def update_sandbox(
    ask: Ask,
    sandbox: SandboxName,
    timeout: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=0, help="Pause it after so long without any activity; 0: never."),
    ] = None,
    label: Label = None,
    visibility: Seen = None,
    auto_resume: AutoResume = None,
) -> None:
    """Change a sandbox: what is given, and nothing else.

    Labels take the place of all that it has. A port that was given a visibility of its own keeps it:
    `wellhead sandbox share` changes that.
    """
    if timeout is None and not label and visibility is None and auto_resume is None:
        raise InputError("nothing is to be changed: give --timeout, --label, --visibility or --auto-resume")
    with ask.open() as server:
        info = sandbox_of(server, sandbox).update(
            timeout_seconds=timeout,
            metadata=_pairs("--label", label) or None,
            visibility=visibility,
            auto_resume=auto_resume,
        )
    ask.tell(info, described(info))


@app.command("pause")
@asks
def pause_sandbox(ask: Ask, sandbox: SandboxName) -> None:
    """Freeze a sandbox: its memory and its sockets stay."""
    with ask.open() as server:
        with hint_on(SandboxState, "only one that runs can be paused"):
            info = sandbox_of(server, sandbox).pause()
    ask.tell(info, [f"{info.id} is {info.status.value}; wellhead sandbox resume {info.id}"])


@app.command("resume")
@asks
def resume_sandbox(ask: Ask, sandbox: SandboxName) -> None:
    """Let a paused sandbox go on."""
    with ask.open() as server:
        with hint_on(SandboxState, "only one that is paused can be resumed"):
            info = sandbox_of(server, sandbox).resume()
    ask.tell(info, [f"{info.id} is {info.status.value}"])


@app.command("rm")
@asks
def remove_sandboxes(
    ask: Ask,
    sandboxes: Annotated[
        list[str],
        typer.Argument(metavar="ID…", help="The sandboxes.", show_default=False, autocompletion=sandbox_ids),
    ],
    yes: Yes = False,
) -> None:
    """End sandboxes, with all that is in them."""
    with ask.open() as server:
        found = [sandbox_of(server, sandbox) for sandbox in sandboxes]
        ask_first(f"End {', '.join(each.id for each in found)} and lose all in it?", yes=yes)
        for each in found:
            each.destroy()
    ask.tell([each.id for each in found], [f"{each.id} is gone" for each in found])


@app.command("snapshot")
@asks
def snapshot_sandbox(
    ask: Ask,
    sandbox: SandboxName,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of the template.  [default: one is made up]")
    ] = None,
) -> None:
    """Keep a sandbox's files as a template, from which others begin."""
    with ask.open() as server:
        made = sandbox_of(server, sandbox).snapshot(name)
    ask.tell(
        made, [f"template {escape(made.name)}: wellhead sandbox create {escape(made.name)}"], [made.name]
    )


@app.command("ps")
@asks
def list_processes(ask: Ask, sandbox: SandboxName) -> None:
    """List what was started in a sandbox and runs still: commands, background processes, terminals."""
    with ask.open() as server:
        processes = sandbox_of(server, sandbox).processes.list()
    rows = [
        (
            str(each.pid),
            each.kind.value,
            each.tag or "",
            each.user or "",
            when(each.started_at) or "",
            shlex.join(each.argv),
        )
        for each in processes
    ]
    titles = ("PID", "KIND", "TAG", "USER", "STARTED", "COMMAND")
    lines = columns(titles, rows) if rows else ["nothing was started, or it ended"]
    ask.tell(processes, lines, [str(each.pid) for each in processes])


@app.command("kill")
@asks
def kill_process(
    ask: Ask,
    sandbox: SandboxName,
    process: Annotated[str, typer.Argument(metavar="PID|TAG", help="The process.", show_default=False)],
    signal: Annotated[
        str, typer.Option("--signal", "-s", metavar="NAME", help="KILL hits all that it started, too.")
    ] = "KILL",
) -> None:
    """Send a signal to a process."""
    with ask.open() as server:
        sandbox_of(server, sandbox).processes.kill(process, signal)


@app.command("exec", context_settings=_FIRST)
@asks
def exec_(
    ask: Ask,
    sandbox: SandboxName,
    command: Command = None,
    env: Env = None,
    cwd: Cwd = None,
    user: User = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="Kill it, and all that it started, after so long."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Let it run on by itself, and print its pid and tag.")
    ] = False,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A name for it, until it ends.")] = None,
) -> int:
    """Run a command in a sandbox.

    What it writes comes as it is written, and this ends with its exit code. Options stand before the ID. It
    reads what comes on stdin, unless that is a terminal.
    """
    from wellhead.cli.sandbox_exec import ExecOptions, run_exec

    options = ExecOptions(words(command), environment(env), cwd, user, timeout, detach, tag)
    with ask.open() as server:
        return run_exec(ask, sandbox_of(server, sandbox), options)


@app.command("shell", context_settings=_FIRST)
@asks
def shell(
    ask: Ask,
    sandbox: SandboxName,
    command: Command = None,
    env: Env = None,
    cwd: Cwd = None,
    user: User = None,
    attach: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Go on with a terminal that was left, with what came since."),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="With --attach: from the first byte that is still kept.")
    ] = False,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A name for the new terminal.")] = None,
    escape_keys: Annotated[
        str,
        typer.Option("--escape", metavar="KEYS|none", help="What leaves the terminal, as ctrl-p,ctrl-q."),
    ] = "ctrl-p,ctrl-q",
) -> int:
    """Open a terminal in a sandbox: its shell, or a command.

    It lives on when you leave it or the connection is lost, and is found again where it was. Options stand
    before the ID.
    """
    from wellhead.cli.shell import ShellOptions, run_shell

    options = ShellOptions(words(command), environment(env), cwd, user, attach, replay, tag, escape_keys)
    with ask.open() as server:
        return run_shell(sandbox_of(server, sandbox), options)


@app.command("cp")
@asks
def cp(
    ask: Ask,
    source: Annotated[
        str,
        typer.Argument(metavar="ID:PATH|PATH|-", help="What is copied; - is stdin.", show_default=False),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="ID:PATH|PATH|-",
            help="Where to; into a directory that is there. - is stdout.",
            show_default=False,
        ),
    ],
    user: User = None,
) -> None:
    """Copy a file, or a directory with all in it, into a sandbox or out of it."""
    from wellhead.cli.sandbox_cp import run_cp

    with ask.open() as server:
        run_cp(server, source, target, user)


@app.command("logs")
@asks
def logs(
    ask: Ask,
    sandbox: SandboxName,
    process: Annotated[
        str,
        typer.Argument(metavar="PID|TAG", help="A background process, or a terminal.", show_default=False),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until it ends.")] = False,
) -> None:
    """Print what a background process or a terminal wrote, as far as it is kept."""
    from wellhead.cli.sandbox_logs import run_logs

    with ask.open() as server, hint_on(NotFound, f"wellhead sandbox ps {escape(sandbox)}"):
        run_logs(sandbox_of(server, sandbox), process, follow=follow)


app.command("ports")(sandbox_ports.list_ports)
app.command("url")(sandbox_ports.show_url)
app.command("share")(sandbox_ports.share)


def words(command: list[str] | None) -> list[str]:
    """A command line without the ``--`` that may stand in front of it.

    Raises:
        InputError: an option stands where the command begins.
    """
    given = list(command or ())
    if given[:1] == ["--"]:
        return given[1:]
    if given and given[0].startswith("-"):
        raise InputError(f"{shown(given[0])} stands behind the sandbox's id: options stand before it")
    return given


def environment(given: list[str] | None) -> dict[str, str]:
    """
    Raises:
        InputError: a variable without a name; or without a value, that is not set here.
    """
    env = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals and name in os.environ:
            value = os.environ[name]
        elif not equals or not name:
            raise InputError(f"--env {shown(each)} is not NAME=VALUE, and no variable that is set here")
        env[name] = value
    return env


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise InputError(f"{option} {shown(each)} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def described(info: SandboxInfo) -> list[str]:
    """All that a person may want to know of a sandbox."""
    return facts(
        [
            ("id", info.id),
            ("status", info.status.value),
            ("reason", info.reason),
            ("template", info.template),
            ("size", _size(info)),
            ("pauses after", f"{info.timeout_sec} s without activity" if info.timeout_sec else None),
            ("resumes", "when it is asked to, or one of its ports is" if info.auto_resume else None),
            ("ports", sandbox_ports.visibilities(info)),
            ("reached at", info.url),
            ("host", info.host_id),
            ("labels", json.dumps(info.metadata, ensure_ascii=False) if info.metadata else None),
            ("last active", when(info.last_active_at)),
            ("created", when(info.created_at)),
        ]
    )


def _size(info: SandboxInfo) -> str:
    return f"{info.vcpus} CPU, {info.memory_mb} MB, disk {info.disk_size_mb} MB"
