"""WSGI applications of others on cheroot: httpbin, a WebDAV server, git's own HTTP backend.

``python tests/kit/wsgi_server.py NAME DIRECTORY PORT [DATA]`` prints its port, which it chooses itself for 0.
The directory is where httpbin was unpacked, what WebDAV shares, or what holds the git repositories. With the
data of a Wellhead server it speaks TLS, certified for 127.0.0.1 by that server's authority.
"""

from __future__ import annotations

import importlib
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cheroot.ssl import Adapter
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server

from wellhead.net.authority import LocalAuthority

BLOCK = 256 * 1024  # bytes


def httpbin(directory: str) -> Any:
    """httpbin, which takes its public address from X-Forwarded-* as behind any proxy."""
    from werkzeug.middleware.proxy_fix import ProxyFix

    sys.path.insert(0, directory)
    return ProxyFix(importlib.import_module("httpbin").app, x_for=0, x_proto=1, x_host=1)


def webdav(directory: str) -> Any:
    from wsgidav.wsgidav_app import WsgiDAVApp  # type: ignore[import-untyped]

    return WsgiDAVApp(
        {
            "provider_mapping": {"/": directory},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "property_manager": True,
            "lock_storage": True,
        }
    )


class Git:
    """``git http-backend``, a CGI program, for every repository below a directory."""

    def __init__(self, directory: str) -> None:
        self._env = os.environ | {"GIT_PROJECT_ROOT": directory, "GIT_HTTP_EXPORT_ALL": "1"}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        env = self._env | {name: text for name, text in environ.items() if isinstance(text, str)}
        backend = subprocess.Popen(
            ["git", "http-backend"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert backend.stdin is not None and backend.stdout is not None
        feeding = threading.Thread(target=_feed, args=(environ["wsgi.input"], backend.stdin), daemon=True)
        feeding.start()
        status, fields = "200 OK", []
        while line := backend.stdout.readline().rstrip(b"\r\n").decode("latin-1"):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = value
            else:
                fields.append((name, value))
        start_response(status, fields)
        return _drained(backend, backend.stdout, feeding)


def _feed(body: IO[bytes], stdin: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(body, stdin, BLOCK)
    except BrokenPipeError:  # the backend has read enough
        pass
    finally:
        stdin.close()


def _drained(
    backend: subprocess.Popen[bytes], stdout: IO[bytes], feeding: threading.Thread
) -> Iterator[bytes]:
    try:
        while block := stdout.read1(BLOCK):  # type: ignore[attr-defined]  # a BufferedReader's
            yield block
    finally:
        feeding.join()
        stdout.close()
        backend.wait()


class Tls(BuiltinSSLAdapter):
    """With a context instead of files."""

    def __init__(self, context: ssl.SSLContext) -> None:
        Adapter.__init__(self, "", "")
        self._server_env: dict[str, str] = {}
        self.context = context


APPS = {"httpbin": httpbin, "webdav": webdav, "git": Git}


def main(name: str, directory: str, port: str, data: str = "") -> None:
    server = Server(("127.0.0.1", int(port)), APPS[name](directory), numthreads=16)
    if data:
        server.ssl_adapter = Tls(LocalAuthority(Path(data)).address_context())
    server.prepare()
    print(f"port {server.bind_addr[1]}", flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
