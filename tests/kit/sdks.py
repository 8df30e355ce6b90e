"""The official SDKs as they were published, each in an environment of its own, and programs of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kit.programs import START_SECONDS, Edge, Program, environment
from tests.kit.published import interpreter

HERE = Path(__file__).parent
OLD, NEW = "0.3.0", "0.7.20"
"""The older has a secret for each tunnel, the newer an API key for all of them."""
AGENT = HERE / "sdk_agent.py"


@dataclass(frozen=True)
class Sdk:
    """One version of the SDK; ``python`` is the interpreter that has it and what it needs, and no more."""

    version: str
    python: Path

    def variables(self, edge: Edge, home: Path, key: str | None = None) -> dict[str, str]:
        """What such a program is told of a server: where it is, whom to trust, and the key."""
        return environment(
            edge.home,
            HOME=str(home),
            PYTHONPATH="",
            SSL_CERT_FILE=str(edge.ca),
            INKBOX_BASE_URL=f"https://{edge.address}",
            INKBOX_API_KEY=key or edge.key,
        )

    def run(self, script: str, edge: Edge, home: Path, *arguments: str, key: str | None = None) -> str:
        """What a short program prints, with ``inkbox`` made for it.

        Raises:
            AssertionError: it failed.
        """
        made = (
            "import os, sys; from inkbox import Inkbox\n"
            "inkbox = Inkbox(os.environ['INKBOX_API_KEY'], base_url=os.environ['INKBOX_BASE_URL'])\n"
        )
        done = subprocess.run(
            [str(self.python), "-c", made + script, *arguments],
            env=self.variables(edge, home, key),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def sdk(version: str) -> Sdk:
    """The SDK of a version.

    Raises:
        AssertionError: it cannot be installed.
    """
    return Sdk(version, interpreter("inkbox", version))


class SdkAgent(Program):
    """A program that comes online by the SDK's ``connect()`` and stays; ``url`` is what it was given."""

    def __init__(
        self,
        sdk: Sdk,
        edge: Edge,
        home: Path,
        *flags: str,
        key: str | None = None,
        wait: bool = True,
    ) -> None:
        """``flags`` as ``tests.kit.sdk_agent`` takes them, names first; its state is kept under ``home``."""
        self.url = ""
        home.mkdir(parents=True, exist_ok=True)
        super().__init__([str(sdk.python), "-P", str(AGENT), *flags], sdk.variables(edge, home, key))
        if wait:
            try:
                self.connected()
            except BaseException:
                self.kill()
                raise

    def connected(self, *, after: int = 0) -> None:
        """Wait until it says so, from line ``after`` on."""
        self.line("^status connected$", after=after)
        self.url = self.line(r"^url (\S+)$")[1]

    @property
    def hostname(self) -> str:
        return self.url.removeprefix("https://").partition(":")[0]
