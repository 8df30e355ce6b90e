"""Which targets lead to a sandbox, and that none leads to another one than its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.edge.sandbox_paths import SandboxPath, sandbox_path
from wellhead.errors import InputError
from wellhead.model.sandboxes import Lane, SandboxId

ID = SandboxId("cl-7yb8n1dsnfn2ylsxs7078sdbj")
OTHER = SandboxId("cl-5vyvxilukemsmh523nsuvmi8u")


def read(target: str) -> SandboxPath:
    found = sandbox_path(target.encode("latin-1"))
    assert found is not None
    return found


@pytest.mark.parametrize("noun", ["capsules", "sandboxes"])
@pytest.mark.parametrize(("prefix", "dialect"), [("", b"standard"), ("/legacy", b"legacy")])
@pytest.mark.parametrize(
    ("rest", "lane", "long"),
    [
        ("/exec", Lane.INTERACTIVE, True),
        ("/exec/stream", Lane.INTERACTIVE, True),
        ("/exec?a=/files", Lane.INTERACTIVE, True),
        ("/logs?selector=7&after=0", Lane.INTERACTIVE, True),
        ("/processes", Lane.INTERACTIVE, False),
        ("/processes/7", Lane.INTERACTIVE, False),
        ("/processes/7/stream", Lane.INTERACTIVE, True),
        ("/processes/a%2Fb/stream?after=3", Lane.INTERACTIVE, True),
        ("/pty", Lane.INTERACTIVE, False),
        ("/ports", Lane.INTERACTIVE, False),
        ("/metrics?range=5m", Lane.INTERACTIVE, False),
        ("/files", Lane.BULK, False),
        ("/files/stream/read", Lane.BULK, False),
        ("/files/write?path=%2Fa%2F..%2Fb", Lane.BULK, False),
        ("/files//x/", Lane.BULK, False),
    ],
)
def test_a_sandboxs_own_paths_are_known_and_carried_on_byte_for_byte(
    prefix: str, dialect: bytes, noun: str, rest: str, lane: Lane, long: bool
) -> None:
    path = read(f"{prefix}/api/v1/{noun}/{ID}{rest}")
    assert (path.dialect, path.lane, path.long, path.name) == (dialect, lane, long, ID)
    assert path.target(path.sandbox()) == f"/sandboxes/{ID}{rest}".encode()


@pytest.mark.parametrize(
    "target",
    [
        "/", "/api/v1/sandboxes", f"/api/v1/sandboxes/{ID}", f"/api/v1/sandboxes/{ID}/pause",
        f"/api/v1/sandboxes/{ID}/execute", f"/api/v1/sandboxes/{ID}/", f"/api/v1/sandboxes/{ID}//exec",
        f"/api/v1/tunnels/{ID}/exec", f"/api/v2/sandboxes/{ID}/exec", f"/other/api/v1/sandboxes/{ID}/exec",
        f"/api/v1/sandboxes/{ID}?/exec", f"/api/v1/sandboxes/{ID}/%65xec", f"/API/v1/sandboxes/{ID}/exec",
        f"/legacy/legacy/api/v1/sandboxes/{ID}/exec", f"//api/v1/sandboxes/{ID}/exec", "/metrics",
        f"/sandboxes/{ID}/exec", "/control/sandboxes", "/overflow/token", "*",
    ],
)  # fmt: skip
def test_everything_else_is_the_control_planes(target: str) -> None:
    assert sandbox_path(target.encode()) is None


@pytest.mark.parametrize(
    "written",
    [
        "", "x", "cl-", "..", ".", "%2e%2e", ID.upper(), ID + "%00", ID[:-1], ID + "0", "cl-" + "z" * 25,
        f"%63l-{ID[3:]}", f"{ID}%2f..%2f{OTHER}", "host-" + "0" * 25, f"{ID}\\..\\{OTHER}", f"{ID};{OTHER}",
        f"{OTHER}@{ID}", "cl-" + "\u0661".encode().decode("latin-1") * 12 + "0",
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(written: str) -> None:
    path = read(f"/api/v1/sandboxes/{written}/exec")
    assert path.name == ""
    with pytest.raises(InputError):
        path.sandbox()


@pytest.mark.parametrize(
    "rest",
    [
        f"/files/../../{OTHER}/exec", "/files/..", "/files/.", "/exec/./x", f"/exec/%2e%2e/%2E./{OTHER}",
        f"/files/..%2f..%2f{OTHER}/exec", f"/files/..%5c..%5C{OTHER}", f"/files/..\\..\\{OTHER}",
        "/processes/../files",
    ],
)  # fmt: skip
def test_a_path_that_climbs_is_refused(rest: str) -> None:
    with pytest.raises(InputError, match="dot segment"):
        read(f"/api/v1/sandboxes/{ID}{rest}").sandbox()


@given(st.text("/.%2efF5cC\\?#;@:a0", max_size=40))
def test_no_rest_changes_the_sandbox(rest: str) -> None:
    path = sandbox_path(f"/api/v1/sandboxes/{ID}/files{rest}".encode())
    if path is None:
        return
    try:
        sandbox = path.sandbox()
    except InputError:
        return
    assert sandbox == ID
    assert path.target(sandbox) == f"/sandboxes/{ID}/files{rest}".encode()
