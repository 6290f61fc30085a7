"""TLS for providers: which certificates are accepted, and the handshake.

- The certificate must be signed by a certificate authority of the system, or of OpenSSL's `SSL_CERT_FILE` and
  `SSL_CERT_DIR`. For a provider with `ca_file`, only the authorities in that file are accepted.
- The name in the certificate is always checked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import ExitStack
from functools import lru_cache
from typing import Final

BUFFER_BYTES: Final = 64 * 1024
"""Size in bytes of two buffers of a connection: for received bytes, and for decrypted bytes. asyncio's default is 256
KB for each connection."""


@lru_cache(maxsize=256)
def tls_context(authorities: str) -> ssl.SSLContext:
    """Return TLS settings that trust the CA certificates in `authorities` (PEM).

    If `authorities` is "", the settings trust the system's CA certificates, which are read only once. Raises
    `ssl.SSLError` if the text has no certificate.
    """
    context = ssl.create_default_context(cadata=authorities or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _TlsLayer(SSLProtocol):
    """The TLS layer of a connection, between the socket and HTTP."""

    max_size = BUFFER_BYTES


async def start_tls(sock: socket.socket, http: asyncio.Protocol, context: ssl.SSLContext, host: str) -> None:
    """Do the TLS handshake with `host` over a connected socket. Then pass the decrypted bytes to the protocol `http`.

    Raises `ssl.SSLError` if TLS fails, and `OSError` if the connection breaks off. The socket is then closed.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    raw, _ = await loop.create_connection(lambda: _TlsLayer(loop, http, context, done, server_hostname=host), sock=sock)
    with ExitStack() as stack:
        stack.callback(raw.abort)
        await done
        stack.pop_all()
