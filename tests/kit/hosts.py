"""Hosts of system tests: programs beside a server, and the REST API through which they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.kit.programs import START_SECONDS, Edge, Program, environment, wellhead
from wellhead.host.runtime.kept import KeptSandboxes
from wellhead.model.sandboxes import SandboxId


class HostProgram(Program):
    """``host`` is its id, ``found`` how many sandboxes it found at its start."""

    def __init__(
        self, edge: Edge, state: Path, token: str | None = None, *, runtime: str = "process",
        settings: Mapping[str, object] | None = None, wait: bool = True,
    ) -> None:  # fmt: skip
        self.state = state
        self.host = ""
        self.found = 0
        extra = {f"WELLHEAD_{key.upper()}": str(value) for key, value in (settings or {}).items()}
        command = ["run"]
        if token is not None:
            url = edge.api.removesuffix("/api/v1")
            command = ["join", "--token", token, "--url", url, "--ca-file", str(edge.ca)]
        super().__init__(
            wellhead("host", *command, "--state", str(state), "--runtime", runtime),
            environment(edge.home, **extra),
        )
        if wait:
            try:
                self.online()
            except BaseException:
                self.kill()
                raise

    def online(self, seconds: float = START_SECONDS) -> None:
        found = self.line(r"^online host=(\S+) runtime=(\S+) sandboxes=(\d+)$", seconds)
        self.host, self.found = found[1], int(found[3])

    def processes(self, sandbox: str) -> list[psutil.Process]:
        """The first process of a sandbox, and all below it."""
        kept = KeptSandboxes(self.state).read(SandboxId(sandbox))
        if kept is None or not kept.is_alive():
            return []
        first = psutil.Process(kept.pid)
        return [first, *first.children(recursive=True)]


class SandboxApi:
    """REST, as the server's admin."""

    def __init__(self, edge: Edge) -> None:
        self._http = httpx.Client(
            base_url=edge.api,
            verify=edge.trust(),
            headers={"X-API-Key": edge.key},
            timeout=60,
            trust_env=False,
        )

    def __enter__(self) -> SandboxApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """The answer's JSON, which is to have this status."""
        answer = self._http.request(method, path, **request)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def token(self) -> str:
        """For a host that is to join."""
        return str(self.ask("POST", "/hosts", 201, json={})["token"])

    def create(self, **members: object) -> str:
        """A sandbox that runs."""
        made = self.ask("POST", "/sandboxes", 201, json={"template": "minimal", "memory_mb": 128, **members})
        assert made["status"] == "running", made
        return str(made["id"])

    def status(self, sandbox: str) -> str:
        return str(self.ask("GET", f"/sandboxes/{sandbox}")["status"])

    def statuses(self) -> dict[str, str]:
        return {each["id"]: each["status"] for each in self.ask("GET", "/sandboxes")}

    def host(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/hosts/{host}")
        return found

    def run(self, sandbox: str, *argv: str, **members: object) -> str:
        """What a command wrote, which is to end well."""
        done = self.ask("POST", f"/sandboxes/{sandbox}/exec", json={"argv": list(argv), **members})
        assert done["exit_code"] == 0, done
        return str(done["stdout"])
