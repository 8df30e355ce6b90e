"""A template of the least that programs need, made in no time, and what a test says to a guest."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from wellhead.host.runtime.runtime import Running, Template
from wellhead.wire.guest import GuestFrame, GuestFrames, message, read_message

_USERS = """\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534::/nonexistent:/bin/false
ann:x:1000:1000::/home/ann:/bin/sh
"""
_GROUPS = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nann:x:1000:\n"


@dataclass(frozen=True)
class Done:
    code: int | None
    output: str
    errors: str


def least_template(place: Path, name: str = "least") -> Template:
    """Its layer is made at ``place``; programs are the machine's."""
    for directory in ("etc", "root", "tmp", "usr", "home/ann", "run", "var/tmp"):
        (place / directory).mkdir(parents=True)
    for each in ("bin", "sbin", "lib", "lib64"):
        if Path("/", each).is_symlink():
            (place / each).symlink_to(f"usr/{each}")
    (place / "etc/passwd").write_text(_USERS)
    (place / "etc/group").write_text(_GROUPS)
    return Template(name=name, layers=[place], shared=["/usr"])


async def run_in(sandbox: Running, *argv: str, user: str | None = None, seconds: float = 30.0) -> Done:
    """Run a program to its end."""
    asked: dict[str, object] = {
        "do": "exec", "argv": list(argv), "env": {}, "cwd": None, "user": user,
        "timeout_seconds": seconds, "tag": None, "stdin": False, "background": False,
    }  # fmt: skip
    async with asyncio.timeout(seconds + 15):
        reader, writer = await asyncio.open_unix_connection(sandbox.guest_socket)
        try:
            writer.write(message(asked))
            frames, output, errors = GuestFrames(), bytearray(), bytearray()
            while data := await reader.read(65536):
                for kind, payload in frames.receive(data):
                    if kind is GuestFrame.OUTPUT:
                        output += payload
                    elif kind is GuestFrame.ERRORS:
                        errors += payload
                    else:
                        said = read_message(payload)
                        assert "error" not in said, said
                        if isinstance(said.get("exited"), dict):
                            code = json.loads(json.dumps(said["exited"])).get("code")
                            return Done(
                                code, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
                            )
            raise AssertionError("the guest left")
        finally:
            writer.transport.abort()


async def shell(sandbox: Running, script: str, user: str | None = None, seconds: float = 30.0) -> Done:
    return await run_in(sandbox, "/bin/sh", "-c", script, user=user, seconds=seconds)
