"""A program in the root that a template makes, without a runtime: its layers over the machine's directories.

In namespaces of its own, with nothing but loopback; what is mounted goes with the program. For root.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kit.machine import may_unshare
from wellhead.host.runtime.runtime import Template

NEEDED = [
    pytest.mark.needs("unshare", "sudo"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not may_unshare(), reason="needs root in a network namespace of its own"
    ),
]

_PREPARED = """
set -e
ip link set lo up
mount -t tmpfs none "$SCRATCH"
cd "$SCRATCH"
mkdir root
over() {  # the lower directories, the place in the root
    mkdir -p "upper$2" "work$2"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=upper$2,workdir=work$2" "root$2"
}
over "$LAYERS" /
for place in $SHARED; do over "$place" "$place"; done
mount -t proc proc root/proc
mount --bind /dev root/dev
hostname sandbox
exec chroot --userspec="$NUMBER:$NUMBER" root env -i HOME="$THERE" PATH="$PATH_THERE" \
    sh -c 'cd; exec "$@"' sh "$@"
"""


def run_in(template: Template, scratch: Path, *argv: str, seconds: float = 60) -> str:
    """What a program said, run as the template's user in its home.

    Raises:
        AssertionError: it failed.
    """
    scratch.mkdir(exist_ok=True)
    variables = {
        "PATH": os.environ["PATH"],
        "SCRATCH": str(scratch),
        "LAYERS": ":".join(map(str, template.layers)),
        "SHARED": " ".join(template.shared),
        "NUMBER": "0" if template.user == "root" else "1000",
        "THERE": template.home,
        "PATH_THERE": template.env.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    }
    unshared = ["unshare", "--mount", "--pid", "--fork", "--uts", "--net", "--ipc", "--kill-child"]
    done = subprocess.run(
        [*unshared, "sh", "-c", _PREPARED, "sh", *argv], env=variables, capture_output=True,
        text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
