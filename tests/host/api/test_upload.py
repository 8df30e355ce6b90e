"""Multipart bodies, taken apart however they are cut."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HostInvalid
from wellhead.host.api.upload import Upload

TYPE = "multipart/form-data; boundary=b"


def body(path: str, data: bytes) -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\n' + path.encode() + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--b--\r\n"
    )


@given(st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"x", b"\r\n--", b"\0"])), st.data())
def test_cuts_change_nothing(pieces: list[bytes], cuts: st.DataObject) -> None:
    data = b"".join(pieces)
    if b"\r\n--b" in b"\r\n" + data:
        return
    whole = body("/tmp/ä b", data)
    upload, at, got = Upload(TYPE), 0, b""
    while at < len(whole):
        size = cuts.draw(st.integers(1, 40))
        got += b"".join(upload.feed(whole[at : at + size]))
        at += size
    assert got == data
    assert upload.fields == {"path": "/tmp/ä b"} and upload.begun and upload.over


@given(st.binary())
def test_any_bytes_are_a_body_or_refused(data: bytes) -> None:
    with contextlib.suppress(HostInvalid):
        assert b"".join(Upload(TYPE).feed(data)) in data


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 1000]
)
def test_a_body_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(HostInvalid):
        Upload(kind)


def test_headers_of_a_part_are_bounded() -> None:
    with pytest.raises(HostInvalid):
        Upload(TYPE).feed(b"--b\r\nContent-Disposition: " + b"x" * 100_000)
    with pytest.raises(HostInvalid):
        Upload(TYPE).feed(b"--b\r\n" + b"a: b\r\n" * 1000)
    with pytest.raises(HostInvalid, match="without a name"):
        Upload(TYPE).feed(b"--b\r\nContent-Disposition: attachment\r\n\r\nx")
