from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from wellhead.cli.consent import ask_first
from wellhead.errors import InputError

QUESTION = "Stop all traffic?"
ASK = f"""
import sys
from wellhead.cli.consent import ask_first
from wellhead.cli.main import app, run

@app.command()
def risky() -> None:
    ask_first({QUESTION!r}, yes=False)
    print("done")

sys.exit(run(["risky"]))
"""


def answered(text: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that asks at a terminal and is answered so."""
    ours, theirs = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    os.write(ours, text.encode())
    out, err = asking.communicate(timeout=30)
    os.close(ours)
    return asking.returncode, out, err


def test_yes_goes_on() -> None:
    code, out, err = answered("y\n")
    assert (code, out) == (0, "done\n") and QUESTION in err


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_no_changes_nothing_and_is_code_1(answer: str) -> None:
    code, out, err = answered(answer)
    assert (code, out) == (1, "") and "nothing was changed" in err


def test_the_end_of_input_is_an_interruption() -> None:
    code, out, err = answered("\x04")
    assert (code, out) == (130, "") and "Traceback" not in err


def test_yes_may_be_said_before() -> None:
    ask_first(QUESTION, yes=True)


def test_where_nobody_can_be_asked_nothing_is_done() -> None:
    with pytest.raises(InputError, match="give --yes"):
        ask_first(QUESTION, yes=False)
