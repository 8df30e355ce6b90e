"""What a person does with each application in a browser: opened, changed, given a file, asked for one."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Download, FilePayload, Page, expect

from tests.kit.sandbox_apps import LAB, NEXT, STATIC, STREAMLIT, TOKEN, VITE, App
from wellhead.client.sandboxes import Sandbox

PATIENCE_MS = 60_000.0
FILE_BYTES = 900_000  # Next.js takes a mebibyte, unless it is told otherwise


@dataclass(frozen=True)
class Visit:
    """``path`` is opened first; its page is there when what ``shown`` selects is to be seen.

    ``use`` leaves the application such that it can be visited again. ``sockets``: whether it has WebSockets.
    """

    app: App
    path: str
    shown: str
    use: Callable[[Page, Sandbox], None]
    sockets: bool = True

    def open(self, page: Page, url: str) -> None:
        """Open a URL that leads to its page, and wait until it is there."""
        page.goto(url, timeout=PATIENCE_MS)
        expect(page.locator(self.shown).first).to_be_visible(timeout=PATIENCE_MS)


def _use_static(page: Page, sandbox: Sandbox) -> None:
    page.click("text=sub/")
    assert page.url.endswith("/sub/")
    with page.expect_navigation(url="**/note.txt"):
        page.click("text=note.txt")
    expect(page.locator("body")).to_have_text("in sub\n")
    redirected = page.goto(page.url.removesuffix("/note.txt"))  # without the slash
    assert redirected is not None and redirected.request.redirected_from is not None
    assert page.url.endswith("/sub/")
    page.goto(page.url.removesuffix("sub/"))
    page.click("text=a b/")
    page.click("text=ü#1?.txt")
    expect(page.locator("body")).to_have_text("odd\n")
    page.go_back()
    page.go_back()
    with page.expect_download() as coming:
        page.click("text=big.bin")
    wanted = sandbox.exec("sha256sum app/big.bin").text.split()[0]
    assert _digest(coming.value) == wanted


def _use_vite(page: Page, sandbox: Sandbox) -> None:
    greeting, red = f"hello {secrets.token_hex(4)}", secrets.randbelow(200)
    page.fill("#typed", "kept")
    page.evaluate("window.before = true")
    sandbox.files.write("app/greeting.js", f"export const greeting = '{greeting}';\n")
    expect(page.locator("#greeting")).to_have_text(greeting, timeout=PATIENCE_MS)
    sandbox.files.write("app/style.css", f"h1 {{\n  color: rgb({red}, 0, 7);\n}}\n")
    expect(page.locator("#greeting")).to_have_css("color", f"rgb({red}, 0, 7)", timeout=PATIENCE_MS)
    assert page.evaluate("window.before") is True, "it was loaded anew"
    expect(page.locator("#typed")).to_have_value("kept")


def _use_next(page: Page, sandbox: Sandbox) -> None:
    label, counter = f"counted {secrets.token_hex(4)}", page.locator("main > button")
    expect(counter).to_have_text("0")

    def count() -> None:
        counter.click()  # is heard as soon as the page is alive
        expect(counter).not_to_have_text("0", timeout=1_000)

    _again(count)
    counted = counter.inner_text()
    page.evaluate("window.before = true")
    source = sandbox.files.read_text("app/app/counter.js")
    sandbox.files.write("app/app/counter.js", re.sub(r'(<p id="label">)[^<]*', rf"\g<1>{label}", source))
    expect(page.locator("#label")).to_have_text(label, timeout=PATIENCE_MS)
    assert page.evaluate("window.before") is True, "it was loaded anew"
    expect(counter).to_have_text(counted)
    file = _file()
    page.set_input_files("input[type=file]", file)
    page.click("input[type=submit]")
    expect(page.locator("output")).to_have_text(_sha256(file["buffer"]), timeout=PATIENCE_MS)
    with page.expect_download() as coming:
        page.click("text=download")
    assert _digest(coming.value) == _sha256(file["buffer"])


def _use_streamlit(page: Page, sandbox: Sandbox) -> None:
    name, file = secrets.token_hex(4), _file()
    page.get_by_label("name").fill(name)
    page.get_by_label("name").press("Enter")
    expect(page.get_by_text(f"typed: {name}")).to_be_visible(timeout=PATIENCE_MS)
    page.set_input_files("input[type=file]", file)
    expect(page.get_by_text(f"sha256: {_sha256(file['buffer'])}")).to_be_visible(timeout=PATIENCE_MS)
    with page.expect_download() as coming:
        page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    assert _digest(coming.value) == _sha256(file["buffer"])


def _use_lab(page: Page, sandbox: Sandbox) -> None:
    run_the_cell(page)
    file = _file()
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Upload Files").click()
    choosing.value.set_files(file)
    listed = page.locator(".jp-DirListing-item", has_text=file["name"])
    expect(listed).to_be_visible(timeout=PATIENCE_MS)
    listed.click(button="right")
    with page.expect_download() as coming:
        page.get_by_role("menuitem", name="Download", exact=True).click()
    assert _digest(coming.value) == _sha256(file["buffer"])


def run_the_cell(page: Page) -> None:
    """Run the first cell of the notebook that JupyterLab shows, until its output is 42."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    output = page.locator(".jp-Notebook .jp-OutputArea-output").first
    cell.wait_for(timeout=PATIENCE_MS)
    expect(page.locator(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator")).to_have_attribute(
        "data-status", "idle", timeout=PATIENCE_MS
    )

    def run() -> None:
        # Until its kernel is connected a notebook forgets what it is asked, and looks idle all the same.
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        expect(output).to_have_text(re.compile(r"^\s*42\s*$"), timeout=5_000)

    _again(run)


def _again(act: Callable[[], None], times: int = 6) -> None:
    """Do what a page may not be ready for yet, until it has worked."""
    for _ in range(times - 1):
        with contextlib.suppress(AssertionError):
            return act()
    act()


def _file() -> FilePayload:
    return {
        "name": f"{secrets.token_hex(4)}.bin",
        "mimeType": "application/octet-stream",
        "buffer": secrets.token_bytes(FILE_BYTES),
    }


def _digest(download: Download) -> str:
    return _sha256(Path(download.path()).read_bytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


STATIC_VISIT = Visit(STATIC, "/", "text=Directory listing for /", _use_static, sockets=False)
VITE_VISIT = Visit(VITE, "/", "#greeting:has-text('hello')", _use_vite)
NEXT_VISIT = Visit(NEXT, "/", "text=hello from Next.js", _use_next)
STREAMLIT_VISIT = Visit(STREAMLIT, "/", "text=hello from Streamlit", _use_streamlit)
LAB_VISIT = Visit(LAB, f"/lab/tree/answer.ipynb?token={TOKEN}&reset", ".jp-Notebook .jp-CodeCell", _use_lab)
VISITS = (STATIC_VISIT, VITE_VISIT, NEXT_VISIT, STREAMLIT_VISIT, LAB_VISIT)
