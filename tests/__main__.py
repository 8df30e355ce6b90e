"""``python -m tests``: every test, in parts; the exit code is 0 where all of them passed.

Small ones and most real programs share two cores. What times something runs last, alone and in a young
process, so that its figures are those of the program under test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tests.kit.parts import failed

TWO = ("-n", "2")
PARTS = {
    "everything small": (*TWO, "--ignore=tests/system"),
    "real programs": (*TWO, "--dist=loadfile", "-m", "not alone", "tests/system"),
    "real programs, each alone": ("-m", "alone", "--durations=25", "--durations-min=5", "tests/system"),
}
ONCE_MORE = ("real programs", "real programs, each alone")
FEW = 6  # tests of those that failed: more are no accident
FAILED = 1  # pytest's exit code where tests did


def main(parts: Mapping[str, Sequence[str]] = PARTS, once_more: Collection[str] = ONCE_MORE) -> int:
    """Real programs share a machine with who knows what: a few that failed are done once more, alone."""
    codes = {}
    with tempfile.TemporaryDirectory() as directory:
        left = {name: Path(directory) / str(number) for number, name in enumerate(parts)}
        for number, (name, arguments) in enumerate(parts.items(), 1):
            print(f"\npart {number} of {len(parts)}: {name}", flush=True)
            before = [left[other] for other in list(parts)[: number - 1]] if number == len(parts) else []
            codes[name] = _pytest(left[name], before, arguments)
        again = [name for name in once_more if codes.get(name) == FAILED and left[name].exists()]
        tests = [test for name in again for test in failed(left[name])]
        if 0 < len(tests) <= FEW:
            print(f"\nonce more: {len(tests)} of real programs", flush=True)
            code = _pytest(None, list(left.values()), tests)
            codes |= dict.fromkeys(again, code)
    return next(filter(None, codes.values()), 0)


def _pytest(leave: Path | None, add: Sequence[Path], arguments: Sequence[str]) -> int:
    reports = [f"--leave-reports={leave}"] if leave is not None else []
    reports += [f"--add-reports={file}" for file in add if file.exists()]
    command = [sys.executable, "-m", "pytest", "-p", "tests.kit.parts", *reports, *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
