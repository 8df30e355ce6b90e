"""``wellhead service``: have systemd keep a server, or the tunnels of a file, running."""

from __future__ import annotations

import getpass
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wellhead.cli.output import tell
from wellhead.cli.progress import progress
from wellhead.cli.service_unit import Service, unit
from wellhead.cli.start_plan import read_plan
from wellhead.errors import InputError, LocalStateError, SettingsError
from wellhead.settings import ServerSettings

COMMAND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Manager:
    """systemd on this machine: the system's, or the one of the user who asks."""

    system: bool
    units: Path
    alive: Path = Path("/run/systemd/system")  # is there where systemd runs the machine

    @classmethod
    def of(cls, *, system: bool) -> Manager:
        if system:
            return cls(True, Path("/etc/systemd/system"))
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return cls(False, Path(config) / "systemd" / "user")

    def command(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *([] if self.system else ["--user"]), *arguments)

    def check(self) -> None:
        """
        Raises:
            SettingsError: systemd does not run this machine.
        """
        if not self.alive.is_dir() or shutil.which("systemctl") is None:
            error = SettingsError("this machine is not run by systemd, so there is no service to install")
            error.add_note(
                "--dry-run prints the unit all the same; or have your own supervisor run the command"
            )
            raise error


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """The command line of ``wellhead service install``."""

    program: str
    system: bool
    config: Path | None
    run_as: str | None
    dry_run: bool


def run_install(options: InstallOptions, manager: Manager | None = None) -> None:
    """Write the unit file, have it started now and at every boot, and say each of it.

    Raises:
        SettingsError: no systemd, or the program's own file is not good.
        LocalStateError: the unit cannot be written, or systemd says no.
    """
    manager = manager or Manager.of(system=options.system)
    service = _service(options)
    text = unit(service)
    if options.dry_run:
        tell(text.rstrip("\n"))
        return
    manager.check()
    _check_program(service)
    path = manager.units / service.name
    _write(path, text)
    tell(f"wrote        {path}")
    _run(manager.command("daemon-reload"))
    _run(manager.command("enable", "--now", service.name))
    tell(f"it runs now, and from now on whenever {'the machine starts' if manager.system else 'you log in'}")
    if not manager.system:
        tell(f"to have it run without you: loginctl enable-linger {getpass.getuser()}")
    tell(f"its lines: journalctl {'' if manager.system else '--user '}-u {service.name}")


def run_remove(program: str, *, system: bool, dry_run: bool, manager: Manager | None = None) -> None:
    """Stop it and take its unit away; what it kept in its home stays.

    Raises:
        SettingsError: no systemd, or no such service was installed.
        LocalStateError: systemd says no, or the file cannot be removed.
    """
    manager = manager or Manager.of(system=system)
    name = Service(_program(program), Path()).name
    path = manager.units / name
    if dry_run:
        tell(shlex.join(manager.command("disable", "--now", name)))
        tell(shlex.join(("rm", str(path))))
        tell(shlex.join(manager.command("daemon-reload")))
        return
    manager.check()
    if not path.is_file():
        raise SettingsError(f"there is no {path}: this service is not installed")
    _run(manager.command("disable", "--now", name))
    try:
        path.unlink()
    except OSError as error:
        raise LocalStateError(f"cannot remove {path}: {(error.strerror or str(error)).lower()}") from error
    tell(f"removed      {path}")
    _run(manager.command("daemon-reload"))


def _program(text: str) -> str:
    if text not in ("up", "start"):
        raise InputError(f"{text!r} is no service: up (a server) or start (the tunnels of a file)")
    return text


def _service(options: InstallOptions) -> Service:
    program, config = _program(options.program), options.config
    if program == "start" and config is None:
        config = Path("wellhead.toml")
    if options.run_as is not None and not options.system:
        raise InputError("--run-as is for --system: a unit of your own runs as you")
    user = (options.run_as or os.environ.get("SUDO_USER") or getpass.getuser()) if options.system else None
    return Service(program, _home(user), None if config is None else config.absolute(), user)


def _home(user: str | None) -> Path:
    """The directory of the user that it will run as."""
    if named := os.environ.get("WELLHEAD_HOME"):
        return Path(named).expanduser().absolute()
    try:
        base = Path.home() if user is None else Path(pwd.getpwnam(user).pw_dir)
    except KeyError:
        raise InputError(f"there is no user {user} on this machine") from None
    return base / ".wellhead"


def _check_program(service: Service) -> None:
    """What would keep it from starting is said now, not in a log.

    Raises:
        SettingsError: its file is not good.
    """
    if service.program == "start":
        assert service.config is not None
        read_plan(service.config)
    else:
        ServerSettings.load(service.config)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        failure = LocalStateError(f"cannot write {path}: {why}")
        if isinstance(error, PermissionError):
            failure.add_note("run it with sudo, or give --user for a service of your own")
        raise failure from error


def _run(command: Sequence[str]) -> None:
    tell(f"ran          {shlex.join(command)}")
    try:
        with progress(shlex.join(command)):
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalStateError(f"{shlex.join(command)}: {error}") from error
    if ended.returncode != 0:
        said = " ".join((ended.stderr or ended.stdout).split())[:300]
        raise LocalStateError(f"{shlex.join(command)}: {said or f'exit code {ended.returncode}'}")
