"""The systemd unit of a Wellhead program, as text."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from wellhead.errors import InputError

STOP_SECONDS = 45  # longer than a drain
FILES = 65536
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+,=-]+")

_DESCRIPTIONS = {
    "up": "Wellhead server: edge and control plane",
    "start": "Wellhead agent: the tunnels of a file",
}

# Exit codes after which starting it again changes nothing. A server's 3 may be a port that is taken for now.
_FINAL = {"up": "2", "start": "2 3 4 6 8"}


@dataclass(frozen=True, slots=True)
class Service:
    """What is to run: ``wellhead up`` or ``wellhead start``, whose, and with which file."""

    program: str  # up or start
    home: Path
    config: Path | None = None
    user: str | None = None  # whom a system unit runs as; None: a unit of the user's own

    @property
    def name(self) -> str:
        return f"wellhead-{self.program}.service"


def unit(service: Service) -> str:
    """The unit file.

    Raises:
        InputError: a path with a line break, which no unit can hold.
    """
    system = service.user is not None
    command = [*_ourselves(), service.program]
    if service.config is not None:
        command += ["--config", str(service.config)]
    lines = [
        "# Written by `wellhead service install`; `wellhead service remove` takes it away.",
        "[Unit]",
        f"Description={_DESCRIPTIONS[service.program]}",
    ]
    if system:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    lines += [
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_quoted(word) for word in command)}",
        *(["ExecReload=/bin/kill -HUP $MAINPID"] if service.program == "start" else []),
        f"Environment={_quoted(f'WELLHEAD_HOME={service.home}')}",
        "Environment=PYTHONUNBUFFERED=1",
        *([f"User={service.user}"] if system else []),
        "Restart=on-failure",
        # The server begins its control plane again and serves meanwhile: a lost child is no end.
        *(["OOMPolicy=continue"] if service.program == "up" else []),
        f"RestartPreventExitStatus={_FINAL[service.program]}",
        "RestartSec=2",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"LimitNOFILE={FILES}",
        "UMask=0077",
        "NoNewPrivileges=yes",
    ]
    if system:
        lines += _fences(service)
    lines += ["", "[Install]", f"WantedBy={'multi-user' if system else 'default'}.target", ""]
    return "\n".join(lines)


def _fences(service: Service) -> list[str]:
    """What a system's manager can keep from a program; a user's own cannot do all of it."""
    fences = [
        "PrivateDevices=yes",
        "ProtectSystem=full",  # /usr, /boot and /etc; data may be kept anywhere else
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    ]
    if service.program == "up":
        fences += ["PrivateTmp=yes"]  # an agent's upstream may be a socket in /tmp
        fences += ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"]
    return fences


def _ourselves() -> list[str]:
    """The command that runs us, whatever the service's PATH will be."""
    return [sys.executable, "-m", "wellhead"]


def _quoted(word: str) -> str:
    """As systemd.service(5) has it under "Quoting" and "Specifiers"."""
    if any(ord(char) < 32 or ord(char) == 127 for char in word):
        raise InputError(f"{word!r} holds a control character, which no unit file can")
    escaped = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(escaped):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
