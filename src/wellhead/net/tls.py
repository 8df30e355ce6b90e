"""TLS contexts, and the one place where the implementation of TLS transports is chosen.

Traps of TLS transports, aiofastnet 1.2 and uvloop 0.22 alike unless said otherwise:

* ``can_write_eof()`` is False and ``write_eof()`` raises: TLS has no half-close here. A peer's
  close_notify calls ``eof_received`` once and closes the transport whatever it returns; a peer's bare FIN
  calls ``connection_lost(None)`` alone, and what was not yet written is lost.
* ``close()`` writes what is queued, then waits for the peer's close_notify; one that never answers is
  dropped after ``shutdown_seconds``. Reading must not be paused then: a paused transport does not see the
  answer and always waits that long. Call ``resume_reading()`` first.
* ``get_write_buffer_size()`` counts plain bytes not yet encrypted; up to one outgoing buffer of encrypted
  bytes stands behind them.
* ``write`` and ``writelines`` take bytes, bytearray and memoryview; what cannot be sent at once is copied
  when it is not bytes, so a view may be reused after the call.
* uvloop's ``connect_accepted_socket`` returns its own TLS protocol instead of ours: nothing here uses it.
* A handshake that fails sends no alert, and aiofastnet's exception does not say why: ``net.portal``
  does both by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from wellhead.errors import SettingsError

try:
    import aiofastnet

    USE_AIOFASTNET = True
except ImportError:  # a platform without its wheels: the loop's own TLS does the same, slower
    USE_AIOFASTNET = False

ALPN_MUX: Final = "wellhead/1"
ALPN_HTTP: Final = "http/1.1"
ALPN_H2: Final = "h2"
ALPN_VISITORS: Final = (ALPN_H2, ALPN_HTTP)  # in the order of our choice
ALPN_ACME: Final = "acme-tls/1"  # RFC 8737

# TLS 1.2 only; those of 1.3 are all good and OpenSSL keeps them in a list of their own.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# Bytes of each of aiofastnet's two buffers of encrypted data per connection: one whole TLS record, so that no
# record is sent in two pieces. An idle connection holds 41 KiB in all with it, 54 KiB with aiofastnet's
# default (16 records) and 45 KiB with uvloop's TLS; a connection that was busy holds no more, where the
# default keeps 520 KiB. It costs 5 % more CPU for what is sent, 25 % for what is received.
# (CPython 3.11, OpenSSL 3.0, allocator as in net.loop; 1000 connections, 256 KiB writes on loopback.)
BUFFER_BYTES: Final = 16 * 1024 + 64
# Of the carrier at its dialler's end, which has only one: less CPU for bulk. An edge has thousands, and four
# records cost each idle one 10 KiB.
CARRIER_BUFFER_BYTES: Final = 4 * BUFFER_BYTES

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def server_context(alpn: Sequence[str] = (ALPN_HTTP,)) -> ssl.SSLContext:
    """A context for our side of visitors' and agents' connections, without a certificate yet.

    TLS 1.2 and 1.3, forward secrecy and AEAD only; no renegotiation, compression, tickets or 0-RTT.
    ``alpn`` is what we speak, best first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, alpn)
    # Python cannot rotate ticket keys, and a stolen one opens every session it ever sealed.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


class ClientContext(ssl.SSLContext):
    """A client's context which remembers, for error messages, what it trusts."""

    trusts: str = "the system's certificates"


def client_context(
    *, ca_file: str | Path | None = None, verify: bool = True, alpn: Sequence[str] = ()
) -> ClientContext:
    """A context for dialling out.

    Trusts the system's certificates, or with ``ca_file`` (PEM) only those in it.

    Raises:
        SettingsError: ``ca_file`` cannot be read or holds no certificate.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, alpn)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.trusts = "nothing: verification is off"
    elif ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except ssl.SSLError as error:
            raise SettingsError(f"ca file {ca_file} holds no certificate in PEM form") from error
        except OSError as error:
            raise SettingsError(f"ca file {ca_file} cannot be read: {error.strerror}") from error
        context.trusts = str(ca_file)
    return context


def _harden(context: ssl.SSLContext, alpn: Sequence[str]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    if alpn:
        context.set_alpn_protocols(list(alpn))


def load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Give a context its certificate, the issuers of it and the key, which Python can only do from a file.

    Raises:
        OSError: OpenSSL does not take them (``ssl.SSLError``), or no descriptor is to be had.
    """
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        return
    descriptor = os.memfd_create("leaf")  # memory only: the key never touches a disk
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


async def accept_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    protocol_factory: ProtocolFactory,
    *,
    handshake_seconds: float,
    shutdown_seconds: float,
) -> None:
    """Do the server's handshake on an accepted socket, which belongs to the transport from here on.

    ``protocol_factory`` is called, and its protocol connected, when the handshake is done, and not at all
    when it fails.

    Raises:
        OSError: the handshake failed or took too long (``ssl.SSLError`` among them); the socket is closed.
    """
    await _start(
        sock,
        context,
        protocol_factory,
        server_side=True,
        server_hostname=None,
        handshake_seconds=handshake_seconds,
        shutdown_seconds=shutdown_seconds,
        buffer_bytes=BUFFER_BYTES,
    )


async def connect_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    protocol_factory: ProtocolFactory,
    *,
    server_hostname: str,
    handshake_seconds: float,
    shutdown_seconds: float = 5.0,
    buffer_bytes: int = BUFFER_BYTES,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Do the client's handshake on a connected socket, as ``accept_tls`` does the server's."""
    return await _start(
        sock,
        context,
        protocol_factory,
        server_side=False,
        server_hostname=server_hostname,
        handshake_seconds=handshake_seconds,
        shutdown_seconds=shutdown_seconds,
        buffer_bytes=buffer_bytes,
    )


async def _start(
    sock: socket.socket,
    context: ssl.SSLContext,
    protocol_factory: ProtocolFactory,
    *,
    server_side: bool,
    server_hostname: str | None,
    handshake_seconds: float,
    shutdown_seconds: float,
    buffer_bytes: int,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    loop = asyncio.get_running_loop()
    _quieten(loop)
    usher = _Usher(protocol_factory)
    options: dict[str, Any] = {
        "ssl": context,
        "ssl_handshake_timeout": handshake_seconds,
        "ssl_shutdown_timeout": shutdown_seconds,
    }
    try:
        if USE_AIOFASTNET:
            options |= {"ssl_incoming_bio_size": buffer_bytes, "ssl_outgoing_bio_size": buffer_bytes}
            if server_side:
                await aiofastnet.connect_accepted_socket(loop, lambda: usher, sock, **options)
            else:
                options["server_hostname"] = server_hostname
                await aiofastnet.create_connection(loop, lambda: usher, sock=sock, **options)
        elif server_side:
            await loop.connect_accepted_socket(lambda: usher, sock, **options)
        else:
            options["server_hostname"] = server_hostname
            await loop.create_connection(lambda: usher, sock=sock, **options)
    except BaseException:
        sock.close()
        raise
    if usher.connected is None:
        raise ConnectionResetError("the connection was lost as its handshake ended")
    return usher.connected


class _Quiet:
    """An exception handler that does not report peers which went away in the midst of a handshake.

    aiofastnet 1.2 reports the *class* ConnectionResetError for each of them, which logging cannot even
    print: any stranger could fill the log. Everything else goes on to the handler before.
    """

    def __init__(self, before: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("exception") is ConnectionResetError:
            return
        if self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)


def _quieten(loop: asyncio.AbstractEventLoop) -> None:
    handler = loop.get_exception_handler()
    if not isinstance(handler, _Quiet):
        loop.set_exception_handler(_Quiet(handler))


class _Usher(asyncio.Protocol):
    """Holds a transport's place for the real protocol until the handshake is done.

    A half-done handshake then costs no protocol of the edge's, and nothing of ours runs for it.
    """

    __slots__ = ("_factory", "connected")

    def __init__(self, factory: ProtocolFactory) -> None:
        self._factory = factory
        self.connected: tuple[asyncio.Transport, asyncio.BaseProtocol] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # aiofastnet's transports have asyncio.Transport's face, not its class.
        stream = cast(asyncio.Transport, transport)
        try:
            protocol = self._factory()
            stream.set_protocol(protocol)
            self.connected = (stream, protocol)
            protocol.connection_made(stream)
        except BaseException:
            stream.abort()  # both implementations report the exception but leave the connection open
            raise
