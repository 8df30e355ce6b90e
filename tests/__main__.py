"""``python -m tests``: every test, in parts; the exit code is 0 where all of them passed.

Small ones and most real programs share two cores. What times something runs last, alone and in a young
process, so that its figures are those of the program under test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TWO = ("-n", "2")
PARTS = {
    "everything small": (*TWO, "--ignore=tests/system"),
    "real programs": (*TWO, "--dist=loadfile", "-m", "not alone", "tests/system"),
    "real programs, each alone": ("-m", "alone", "--durations=25", "--durations-min=5", "tests/system"),
}


def main() -> int:
    codes = []
    with tempfile.TemporaryDirectory() as directory:
        left = [Path(directory) / str(number) for number in range(1, len(PARTS))]
        for number, (name, arguments) in enumerate(PARTS.items()):
            print(f"\npart {number + 1} of {len(PARTS)}: {name}", flush=True)
            if number < len(left):
                reports = [f"--leave-reports={left[number]}"]
            else:
                reports = [f"--add-reports={file}" for file in left if file.exists()]
            command = [sys.executable, "-m", "pytest", "-p", "tests.kit.parts", *reports, *arguments]
            codes.append(subprocess.run(command, check=False).returncode)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
