from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from wellhead.cli.files import files_app


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "site"
    (place / "pictures").mkdir(parents=True)
    (place / "docs").mkdir()
    (place / ".git").mkdir()
    (place / "docs" / "index.html").write_text("<h1>docs</h1>")
    (place / "numbers.bin").write_bytes(bytes(range(100)))
    (place / "style.css").write_text("p {}")
    (place / "pictures" / "a:b & <i>.txt").write_text("odd")
    (place / ".git" / "config").write_text("secret")
    (place / ".env").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    (place / "out").symlink_to(tmp_path / "outside.txt")
    (place / "up").symlink_to(tmp_path)
    (place / "shown").symlink_to(place / ".env")
    (place / "round").symlink_to(place / "round")
    (place / "same.css").symlink_to(place / "style.css")
    os.mkfifo(place / "pipe")
    return place


@pytest.fixture
async def visitor(place: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(files_app(place))
    async with httpx.AsyncClient(transport=transport, base_url="http://site.example.com") as visitor:
        yield visitor


async def test_a_file_has_its_type_and_a_tag_that_saves_the_next_transfer(visitor: httpx.AsyncClient) -> None:
    reply = await visitor.get("/style.css")
    assert (reply.status_code, reply.text) == (200, "p {}")
    assert reply.headers["content-type"] == "text/css; charset=utf-8"
    again = await visitor.get("/style.css", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    since = await visitor.get("/style.css", headers={"If-Modified-Since": reply.headers["last-modified"]})
    assert since.status_code == 304


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=10-19", 206, bytes(range(10, 20))),
        ("bytes=-5", 206, bytes(range(95, 100))),
        ("bytes=98-", 206, bytes([98, 99])),
        ("bytes=200-300", 416, None),
    ],
)
async def test_a_range_is_that_part(
    visitor: httpx.AsyncClient, asked: str, status: int, body: bytes | None
) -> None:
    reply = await visitor.get("/numbers.bin", headers={"Range": asked})
    assert reply.status_code == status
    if body is None:
        assert reply.headers["content-range"] == "bytes */100"
    else:
        assert reply.content == body


async def test_a_range_of_another_version_is_the_whole(visitor: httpx.AsyncClient) -> None:
    reply = await visitor.get("/numbers.bin", headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert reply.status_code == 200 and len(reply.content) == 100


@pytest.mark.parametrize("path", ["/numbers.bin", "/pictures/"])
async def test_head_is_get_without_the_body(visitor: httpx.AsyncClient, path: str) -> None:
    asked, told = await visitor.get(path), await visitor.head(path)
    assert told.status_code == 200
    assert told.headers["content-length"] == asked.headers["content-length"] == str(len(asked.content))


async def test_other_methods_are_refused(visitor: httpx.AsyncClient) -> None:
    for path in ("/style.css", "/pictures/"):
        reply = await visitor.post(path)
        assert reply.status_code == 405 and reply.headers["allow"] == "GET, HEAD"


async def test_a_directory_is_its_index_or_a_list(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/docs/")).text == "<h1>docs</h1>"
    page = (await visitor.get("/")).text
    names = ["docs/", "pictures/", "numbers.bin", "same.css", "style.css"]
    places = [page.index(f">{name}</a>") for name in names]
    assert places == sorted(places)
    assert page.count("<a ") == len(names)  # nothing that would not be served
    assert "<script" not in page


@pytest.mark.parametrize("path", ["/docs", "/pictures"])
async def test_a_directory_without_its_slash_is_sent_there(visitor: httpx.AsyncClient, path: str) -> None:
    reply = await visitor.get(f"{path}?a=b")
    assert reply.status_code == 307
    assert reply.headers["location"] == f"http://site.example.com{path}/?a=b"


async def test_a_name_cannot_become_markup_and_its_link_leads_to_it(visitor: httpx.AsyncClient) -> None:
    page = (await visitor.get("/pictures/")).text
    assert "a:b &amp; &lt;i&gt;.txt</a>" in page and "<i>" not in page
    link = page.split('<a href="')[2].split('"')[0]
    assert (await visitor.get(f"/pictures/{link}")).text == "odd"
    assert '<a href="../">' in page


@pytest.mark.parametrize(
    "path",
    [
        "/.env", "/.git/", "/.git/config", "/docs/../.env", "/shown",
        "/out", "/up/", "/up/outside.txt", "/../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt",
        "/docs/%2e%2e/%2e%2e/outside.txt", "//etc/passwd", "/%2fetc/passwd",
        "/round", "/pipe", "/absent", "/a%00b", "/" + "x" * 300,
    ],
)  # fmt: skip
async def test_what_is_hidden_outside_or_no_file_is_not_found(visitor: httpx.AsyncClient, path: str) -> None:
    raw = httpx.URL("http://site.example.com").copy_with(raw_path=path.encode())
    reply = await visitor.get(raw)
    assert reply.status_code == 404 and "secret" not in reply.text and "root:" not in reply.text


async def test_hidden_names_are_served_where_that_is_wanted(place: Path) -> None:
    transport = httpx.ASGITransport(files_app(place, hidden=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://site.example.com") as visitor:
        assert (await visitor.get("/.env")).text == "secret"
        assert ">.git/</a>" in (await visitor.get("/")).text
        assert (await visitor.get("/out")).status_code == 404


async def test_a_directory_of_very_many_names_says_that_it_goes_on(
    place: Path, visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.cli.files.MAX_LISTED", 2)
    assert "and more, which are not listed" in (await visitor.get("/")).text
