from __future__ import annotations

import subprocess
import sys

SAY = """
import sys
from pathlib import Path
from wellhead.cli.argv import hide_credentials
hide_credentials()
sys.stdout.write(Path("/proc/self/cmdline").read_text())
"""
KEY = "wh_0123456789abcdefghijABCDEFGHIJ"


def test_a_credential_on_the_command_line_is_blanked_for_ps_and_nothing_else_is() -> None:
    words = [sys.executable, "-c", SAY, "--api-key", KEY, f"--api-key={KEY}", "whs_secret123", "wh_y", "8000"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout
    hidden = f"wh_{'x' * (len(KEY) - 3)}"
    after = ["--api-key", hidden, f"--api-key={hidden}", "whs_xxxxxxxxx", "wh_y", "8000"]
    assert told.split("\0")[3:-1] == after


def test_the_program_itself_still_knows_what_it_was_given() -> None:
    say = "import sys; from wellhead.cli.argv import hide_credentials; hide_credentials(); print(sys.argv[1])"
    words = [sys.executable, "-c", say, KEY]
    assert subprocess.run(words, capture_output=True, text=True, timeout=30).stdout == f"{KEY}\n"
