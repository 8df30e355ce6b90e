"""A container registry behind the agent: a gibibyte pushed in chunks over breaks, and an image by skopeo."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import shutil
import socket
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.kit.bulk_server import blocks
from tests.kit.outsiders import Outsider
from tests.kit.programs import Agent, Edge, Program, eventually, listens, quiet_port
from tests.system.conftest import House

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.needs("docker-registry", "skopeo", "unshare"),
]

LAYERS = [640 * 1024**2, 256 * 1024**2, 128 * 1024**2]  # bytes; one gibibyte in all
CHUNK = 64 * 1024**2  # bytes of one PATCH
BROKEN_OFF = CHUNK // 3  # bytes of a PATCH that arrive before its connection breaks
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}", secret: none}}
"""


@contextlib.contextmanager
def registry(home: Path, port: int) -> Iterator[None]:
    config = home / "registry.yml"
    config.write_text(CONFIG.format(root=home / "blobs", port=port))
    with Program(["docker-registry", "serve", str(config)]):
        eventually(lambda: listens(port), 20)
        yield
    shutil.rmtree(home / "blobs")  # which pytest would keep


class Client:
    """A client of the distribution API, on one connection for as long as it lasts."""

    def __init__(self, edge: Edge, agent: Agent) -> None:
        self.authority = f"{agent.hostname}:{edge.https}"
        self._edge = edge
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.authority, context=self._edge.trust(), timeout=60)
        # By the address: not every resolver knows names under .localhost.
        connection._create_connection = _to_loopback  # type: ignore[attr-defined]
        return connection

    def ask(
        self, method: str, url: str, body: bytes | None = None, fields: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """One exchange; the body of the reply to a GET is left to the caller."""
        self._connection.request(method, url, body, fields or {})
        reply = self._connection.getresponse()
        if method != "GET":
            reply.read()
        return reply

    def break_off(self, url: str, fields: Mapping[str, str], data: bytes) -> None:
        """Send a part of what ``fields`` promise, and be gone."""
        self._connection.putrequest("PATCH", url)
        for name, text in fields.items():
            self._connection.putheader(name, text)
        self._connection.endheaders(data)
        self.close()

    def close(self) -> None:
        """Leave; the next request is on a connection of its own."""
        self._connection.close()

    def begin(self) -> str:
        """The place of a new upload."""
        return self.place(self.ask("POST", "/v2/big/image/blobs/uploads/"))

    def put(self, place: str, sent: int, chunk: bytes) -> str:
        """Send the next chunk; returns the place of the one after it."""
        reply = self.ask("PATCH", place, chunk, _range(sent, len(chunk)))
        assert reply.getheader("Range") == f"0-{sent + len(chunk) - 1}"
        return self.place(reply)

    def place(self, reply: http.client.HTTPResponse) -> str:
        """Where to go on: the registry names it by the public address, which the agent told it."""
        assert reply.status == 202, reply.status
        found = urlsplit(reply.getheader("Location") or "")
        assert (found.scheme, found.netloc) == ("https", self.authority)
        return f"{found.path}?{found.query}"

    def finish(self, place: str, digest: str) -> None:
        """The registry hashes what it has, and takes it under that digest only."""
        reply = self.ask("PUT", f"{place}&digest={digest}", b"")
        assert (reply.status, reply.getheader("Docker-Content-Digest")) == (201, digest)

    def digest_of(self, digest: str) -> str:
        """What the blob that is pulled under a digest hashes to."""
        reply, sha = self.ask("GET", f"/v2/big/image/blobs/{digest}"), hashlib.sha256()
        assert reply.status == 200
        while block := reply.read(1024 * 1024):
            sha.update(block)
        return f"sha256:{sha.hexdigest()}"


def _to_loopback(
    address: tuple[str, int], timeout: float, source: tuple[str, int] | None = None
) -> socket.socket:
    return socket.create_connection(("127.0.0.1", address[1]), timeout, source)


def test_a_gibibyte_in_layers_arrives_whole_over_two_breaks(tmp_path: Path) -> None:
    port = quiet_port()
    with registry(tmp_path, port), Edge(tmp_path) as edge, contextlib.ExitStack() as agents:
        client = Client(edge, agents.enter_context(edge.agent(port)))
        _leave_within_a_chunk(client)
        for size in LAYERS:
            place, sha, sent = client.begin(), hashlib.sha256(), 0
            for chunk in _chunks(size):
                if sent == 2 * CHUNK:  # the agent breaks off, and another goes on
                    agents.close()
                    agents.enter_context(edge.agent(port))
                    status = client.ask("GET", place)
                    status.read()
                    assert (status.status, status.getheader("Range")) == (204, f"0-{sent - 1}")
                sha.update(chunk)
                place = client.put(place, sent, chunk)
                sent += len(chunk)
            digest = f"sha256:{sha.hexdigest()}"
            client.finish(place, digest)
            assert client.digest_of(digest) == digest
        client.close()


def _leave_within_a_chunk(client: Client) -> None:
    """A visitor that leaves has not sent a whole chunk: the registry does not go on where it should end."""
    place, chunk = client.begin(), next(_chunks(CHUNK))
    client.break_off(place, _range(0, len(chunk)), chunk[:BROKEN_OFF])
    digest = f"sha256:{hashlib.sha256(chunk[:BROKEN_OFF]).hexdigest()}"
    assert client.ask("PUT", f"{place}&digest={digest}", b"").status >= 400


def _range(start: int, length: int) -> dict[str, str]:
    return {
        "Content-Range": f"{start}-{start + length - 1}",
        "Content-Length": str(length),
        "Content-Type": "application/octet-stream",
    }


def _chunks(size: int) -> Iterator[bytes]:
    held: list[bytes] = []
    for block in blocks(size):
        held.append(block)
        if len(held) * len(block) == CHUNK:
            yield b"".join(held)
            held.clear()


def test_skopeo_pushes_an_image_and_pulls_the_same(house: House, tmp_path: Path) -> None:
    visitor, image, back = Outsider(house.edge, house.agent, tmp_path), tmp_path / "image", tmp_path / "back"
    _write_image(image, [32 * 1024**2, 8 * 1024**2, 1])
    name = f"docker://{house.host('tls')}/some/image:one"
    copy = ("skopeo", "--insecure-policy", "copy", "--preserve-digests")
    with registry(tmp_path, house.port):
        visitor.run(*copy, f"oci:{image}:one", name)
        visitor.run(*copy, name, f"oci:{back}:one")
        listed = json.loads(visitor.run("skopeo", "list-tags", name.rpartition(":")[0]))
    pulled = {path.name for path in (back / "blobs" / "sha256").iterdir()}
    assert pulled == {path.name for path in (image / "blobs" / "sha256").iterdir()}
    for blob in (back / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert listed["Tags"] == ["one"]


def _write_image(directory: Path, layers: list[int]) -> None:
    """An image in the layout of OCI, whose layers are tar files of one file each."""

    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    kept = []
    for size in layers:
        content, packed = b"".join(blocks(size)), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo(f"file-{size}")
            member.size = size
            tar.addfile(member, io.BytesIO(content))
        kept.append(keep(packed.getvalue(), "application/vnd.oci.image.layer.v1.tar"))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in kept]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": kept,
    }
    index = keep(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index["annotations"] = {"org.opencontainers.image.ref.name": "one"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
