"""Files: wrenn's calls and ours, and what must not be done with them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest

from tests.kit.api_host import ApiHost, LiveGuest, api_host
from tests.kit.inprocess import envelope
from wellhead.host.api.context import ApiTerms
from wellhead.host.api.entries import entries_answer

MIB = 1024 * 1024


async def upload(host: ApiHost, path: str, data: bytes, call: str = "write") -> httpx.Response:
    return await host.http.post(f"/files/{call}", data={"path": path}, files={"file": ("upload", data)})


def form(*parts: tuple[str, bytes], boundary: bytes = b"xyz") -> tuple[bytes, dict[str, str]]:
    """A multipart body of these parts, in this order, and its header."""
    body = b""
    for name, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="a"' if name == "file" else "")
        body += b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
    body += b"--" + boundary + b"--\r\n"
    return body, {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


@pytest.mark.parametrize("call", ["write", "stream/write"])
async def test_a_file_that_was_written_is_read_as_it_was(host: ApiHost, guest: LiveGuest, call: str) -> None:
    data = bytes(range(256)) * 5000 + b"\r\n--"
    path = f"{guest.home}/deep/er/{call.replace('/', '-')}"
    assert (await upload(host, path, data, call)).status_code == 204
    for read in ("read", "stream/read"):
        answer = await host.post(f"/files/{read}", path=path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.content == data
    part = await host.post("/files/read", path=path, offset=256, length=3)
    assert part.content == b"\0\1\2"


async def test_the_bytes_alone_are_written_too_with_mode_and_what_they_are_now(
    host: ApiHost, guest: LiveGuest
) -> None:
    path = f"{guest.home}/put me"
    answer = await host.http.put("/files/write", params={"path": path, "mode": str(0o640)}, content=b"hello")
    assert answer.status_code == 200
    entry = answer.json()["entry"]
    assert (entry["path"], entry["size"], entry["permissions"]) == (path, 5, "-rw-r-----")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_multipart_body_may_be_cut_anywhere(host: ApiHost, guest: LiveGuest, size: int) -> None:
    data = b"a\r\n--xy\r\n--xyz\r\rb\r\n--xy"[:-3] + b"\r\n-"
    data = data.replace(b"--xyz", b"--xyy")
    body, headers = form(("path", f"{guest.home}/cut".encode()), ("file", data))
    answer = await host.http.post("/files/stream/write", content=in_pieces(body, size), headers=headers)
    assert answer.status_code == 204
    assert (guest.home / "cut").read_bytes() == data


async def test_the_path_may_come_behind_a_small_file_and_not_behind_a_large_one(
    host: ApiHost, guest: LiveGuest
) -> None:
    path = f"{guest.home}/behind"
    body, headers = form(("file", b"x" * 1000), ("other", b"1"), ("path", path.encode()))
    assert (await host.http.post("/files/write", content=body, headers=headers)).status_code == 204
    assert (guest.home / "behind").read_bytes() == b"x" * 1000
    body, headers = form(("file", b"x" * 2 * MIB), ("path", path.encode()))
    answer = await host.http.post("/files/write", content=in_pieces(body, 65536), headers=headers)
    assert answer.status_code == 400 and "must stand before a file" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"", {}, "no multipart/form-data"),
        (b"{}", {"content-type": "application/json"}, "no multipart/form-data"),
        (b"", {"content-type": "multipart/form-data"}, "no multipart/form-data"),
        (b"junk", {"content-type": "multipart/form-data; boundary=a"}, "multipart"),
        (*form(("path", b"/tmp/x")), "has no file"),
        (*form(("file", b"x")), "has no path"),
        (*form(("path", b"x" * 9000), ("file", b"x")), "more than 8192 bytes"),
        (*form(("path", b"/tmp/\xff"), ("file", b"x")), "no UTF-8"),
        (*form(("path", b"/tmp/\0"), ("file", b"x")), "NUL"),
        (*form(("path", b"/tmp/" + b"x" * 5000), ("file", b"x")), "5005 bytes, at most 4096"),
        (*form(*[("a", b"")] * 20), "more than 16 parts"),
        (*form(("path", b"/tmp/two"), ("file", b"x"), ("file", b"y")), "second file"),
        (form(("path", b"/tmp/cut-short"), ("file", b"x"))[0][:-9], form()[1], "last boundary"),
    ],
)
async def test_what_is_no_upload_is_refused_and_nothing_written(
    host: ApiHost, body: bytes, headers: dict[str, str], message: str
) -> None:
    answer = await host.http.post("/files/write", content=body, headers=headers)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    for name in ("two", "cut-short", "x"):
        assert (await host.post("/files/stat", path=f"/tmp/{name}")).status_code == 404


async def test_a_file_above_its_bound_is_refused_and_leaves_nothing(guest: LiveGuest) -> None:
    terms = ApiTerms(upload_bytes=100_000, stream_upload_bytes=200_000)
    async with api_host(guest, terms) as host:
        path = f"{guest.home}/bounded"
        for data, call in (
            (b"x" * 100_001, "write"),
            (b"x" * 500_000, "write"),
            (b"x" * 200_001, "stream/write"),
        ):
            body, headers = form(("path", path.encode()), ("file", data))
            for content in (body, in_pieces(body, 65536)):
                answer = await host.http.post(f"/files/{call}", content=content, headers=headers)
                assert answer.status_code == 413
                assert answer.json()["error"]["code"] == "too_large"
                bound = "100000" if call == "write" else "200000"
                assert f"more than {bound} bytes" in answer.json()["error"]["message"]
        put = await host.http.put(
            "/files/write", params={"path": path}, content=in_pieces(b"x" * 100_001, 999)
        )
        assert put.status_code == 413
        assert not (guest.home / "bounded").exists()
        assert (await upload(host, path, b"x" * 100_000)).status_code == 204
        assert (await upload(host, path, b"x" * 200_000, "stream/write")).status_code == 204


async def test_ten_gibibytes_are_refused_by_their_length_alone(host: ApiHost) -> None:
    head = envelope(
        "POST", f"/sandboxes/{host.id}/files/write",
        ("Content-Type", "multipart/form-data; boundary=a"), length=10 * 1024 * MIB,
    )  # fmt: skip
    visit = host.visit(head, end=False)
    await visit.over()
    assert visit.status == 413


async def test_an_upload_that_breaks_off_leaves_what_was_there(host: ApiHost, guest: LiveGuest) -> None:
    path = guest.home / "kept"
    path.write_bytes(b"before")
    body, headers = form(("path", str(path).encode()), ("file", b"x" * 300_000))
    head = envelope(
        "POST",
        f"/sandboxes/{host.id}/files/write",
        ("Content-Type", headers["content-type"]),
        length=len(body),
    )
    visit = host.visit(head, body[:200_000], end=False)
    await asyncio.sleep(0.1)
    visit.stream.reset(1)
    await host.idle()
    async with asyncio.timeout(20):
        while any(each.name.startswith(".wellhead") for each in guest.home.iterdir()):
            await host.exec("true")
    assert path.read_bytes() == b"before"


async def test_a_directory_is_listed_to_a_depth_in_wrenns_words(host: ApiHost, guest: LiveGuest) -> None:
    root = guest.home / "listed"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.txt").write_text("x")
    (root / "link").symlink_to("a")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")

    async def listed(path: str, depth: int) -> dict[str, str]:
        answer = await host.post("/files/list", path=path, depth=depth)
        assert answer.status_code == 200, answer.text
        return {entry["path"]: entry["type"] for entry in answer.json()["entries"]}

    one = {
        f"{root}/a": "directory",
        f"{root}/link": "symlink",
        f"{root}/dangling": "symlink",
        f"{root}/pipe": "file",
    }
    assert await listed(str(root), 1) == await listed(str(root), 0) == await listed(f"{root}/", 1) == one
    assert await listed(str(root), 2) == one | {f"{root}/a/b": "directory"}
    assert f"{root}/a/b/c.txt" in await listed(str(root), 3)
    assert await listed(f"{root}/link", 1) == {f"{root}/link/b": "directory"}
    entries = (await host.post("/files/list", path=str(root / "a" / "b"))).json()["entries"]
    entry = entries[0]
    assert entry["name"] == "c.txt" and entry["size"] == 1 and entry["permissions"][0] == "-"
    assert type(entry["modified_at"]) is int and entry["mode"] <= 0o7777 and entry["owner"]


async def test_relative_paths_and_the_tilde_begin_at_home(host: ApiHost, guest: LiveGuest) -> None:
    (guest.home / "here.txt").write_text("found")
    assert (await host.post("/files/read", path="here.txt")).text == "found"
    assert (await host.post("/files/read", path="~/here.txt")).text == "found"
    for path in ("", "~", "."):
        names = [each["name"] for each in (await host.post("/files/list", path=path)).json()["entries"]]
        assert "here.txt" in names


async def test_a_directory_is_made_once_and_said_to_be_there_after_that(
    host: ApiHost, guest: LiveGuest
) -> None:
    path = f"{guest.home}/made/deep"
    made = (await host.post("/files/mkdir", path=path)).json()["entry"]
    assert (made["name"], made["path"], made["type"]) == ("deep", path, "directory")
    again = await host.post("/files/mkdir", path=path)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert (await host.post("/files/mkdir", path=path, exist_ok=True)).status_code == 200
    alone = await host.post("/files/mkdir", path=f"{guest.home}/no/parents", parents=False)
    assert alone.status_code == 404


async def test_what_is_removed_is_gone_with_all_that_is_in_it(host: ApiHost, guest: LiveGuest) -> None:
    (guest.home / "tree" / "in").mkdir(parents=True)
    (guest.home / "tree" / "in" / "file").write_text("x")
    path = f"{guest.home}/tree"
    assert (await host.post("/files/remove", path=path, recursive=False)).status_code in (400, 409)
    assert (await host.post("/files/remove", path=path)).status_code == 204
    again = await host.post("/files/remove", path=path)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


async def test_a_file_is_moved_and_another_is_replaced_only_where_that_is_said(
    host: ApiHost, guest: LiveGuest
) -> None:
    (guest.home / "from").write_text("1")
    (guest.home / "to").write_text("2")
    ends = {"source": f"{guest.home}/from", "target": f"{guest.home}/to"}
    assert (await host.post("/files/move", **ends)).status_code == 409
    moved = (await host.post("/files/move", **ends, overwrite=True)).json()["entry"]
    assert moved["path"] == ends["target"] and (guest.home / "to").read_text() == "1"
    assert (await host.post("/files/move", **ends)).status_code == 404
    assert (await host.post("/files/stat", path=ends["target"])).json()["entry"]["size"] == 1


@pytest.mark.parametrize("call", ["read", "stream/read", "list", "stat", "remove"])
async def test_what_is_missing_is_not_found(host: ApiHost, call: str) -> None:
    for path in ("/no/such/thing", "/etc/passwd/below", "/tmp/../no-such-thing"):
        answer = await host.post(f"/files/{call}", path=path)
        assert answer.status_code == 404, (path, answer.text)
        assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("read", "/tmp"),
        ("read", "/dev/zero"),
        ("stream/read", "/dev/full"),
        ("list", "/etc/passwd"),
        ("read", "/dev/null"),
    ],
)
async def test_what_is_no_file_is_not_read_and_what_is_no_directory_not_listed(
    host: ApiHost, call: str, path: str
) -> None:
    answer = await host.post(f"/files/{call}", path=path)
    assert answer.status_code in (400, 403)
    assert answer.json()["error"]["code"] in ("invalid_request", "forbidden")


@pytest.mark.parametrize("path", ["/dev/null", "/tmp", "/dev/full"])
async def test_devices_and_directories_are_not_written_over(host: ApiHost, path: str) -> None:
    answer = await upload(host, path, b"x")
    assert answer.status_code in (400, 403, 409)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "path is missing"),
        ({"path": 1}, "path is no text"),
        ({"path": "/a\0b"}, "NUL"),
        ({"path": "/" + "a" * 4096}, "4097 bytes, at most 4096"),
        ({"path": "/tmp", "depth": -1}, "depth"),
        ({"path": "/tmp", "depth": 10**6}, "not 0 to 64"),
        ({"path": "/tmp", "depth": True}, "depth is no whole number"),
        ({"path": "/tmp", "user": 7}, "user is no text"),
    ],
)
async def test_what_is_no_path_is_refused(host: ApiHost, body: dict[str, object], message: str) -> None:
    answer = await host.post("/files/list" if "depth" in body or "user" in body else "/files/stat", **body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_files_of_a_sandbox_that_does_not_run_are_not_touched(host: ApiHost) -> None:
    await host.sandboxes.pause(host.id)
    for answer in (await host.post("/files/read", path="/etc/passwd"), await upload(host, "/tmp/x", b"x")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")


async def test_a_file_counts_as_activity(host: ApiHost, guest: LiveGuest) -> None:
    entry = host.table.entry(host.id)
    for call in ("write", "read"):
        entry.last_active = 0.0
        path = f"{guest.home}/active"
        answer = (
            await upload(host, path, b"x") if call == "write" else await host.post("/files/read", path=path)
        )
        assert answer.status_code < 300 and entry.last_active > 0


async def test_a_large_file_does_not_pass_through_memory(host: ApiHost, guest: LiveGuest) -> None:
    """Reading stops where the visitor stops taking."""
    (guest.home / "large").write_bytes(bytes(8 * MIB))
    visit = host.visit(
        envelope("POST", f"/sandboxes/{host.id}/files/read", length=len(b'{"path":"large"}')),
        b'{"path":"large"}',
    )
    visit.holding = True
    await visit.until(lambda: len(visit.body) > 100_000)
    await asyncio.sleep(0.2)
    assert len(visit.body) < 4 * MIB
    visit.release()
    await visit.over()
    assert len(visit.body) == 8 * MIB and visit.ended


async def test_a_long_list_is_whole_and_comes_with_turns_for_others(host: ApiHost, guest: LiveGuest) -> None:
    (guest.home / "long").mkdir()
    for number in range(3000):
        (guest.home / "long" / f"{number:0200}").touch()
    answer = await host.post("/files/list", path="long")
    names = [entry["name"] for entry in answer.json()["entries"]]
    assert names == [f"{number:0200}" for number in range(3000)]

    turns = 0

    async def pages() -> AsyncGenerator[list[dict[str, object]], None]:
        for number in range(50):
            asyncio.get_running_loop().call_soon(turn)
            yield [{"name": str(number)}]

    def turn() -> None:
        nonlocal turns
        turns += 1

    assert len(json.loads(bytes((await entries_answer(pages())).body))["entries"]) == 50
    assert turns >= 49
