"""The command `irisgate-health`: asks a running gateway whether it is healthy.

Containers and probes start it every few seconds, so it imports only the standard library.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import ssl
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

DEFAULT = "http://127.0.0.1:8080"
SECONDS = 5.0
"""Default of the maximum number of seconds to wait for the gateway's answer."""
HEALTHY, UNHEALTHY = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask a running gateway for its health, and print the answer.

    Return the exit status: 0 if the gateway is healthy, 1 if it is not.
    """
    parser = argparse.ArgumentParser(
        prog="irisgate-health", description="Ask a running gateway whether it can serve calls (or, --alive, runs)."
    )
    parser.add_argument(
        "address",
        nargs="?",
        default=DEFAULT,
        help='"http://HOST:PORT", "https://HOST:PORT" or "unix:PATH" (default: %(default)s)',
    )
    parser.add_argument("--alive", action="store_true", help="ask /healthz, not /readyz")
    parser.add_argument("--timeout", type=float, default=SECONDS, help="seconds (default: %(default)s)")
    options = parser.parse_args(arguments)
    path = "/healthz" if options.alive else "/readyz"
    try:
        status, body = _answer(options.address, path, options.timeout)
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"irisgate-health: {options.address}: {error}\n")
        return UNHEALTHY
    sys.stdout.write(f"{status} {body}\n")
    return HEALTHY if status == 200 else UNHEALTHY


def _answer(address: str, path: str, seconds: float) -> tuple[int, str]:
    """Send a GET request to the gateway at `address`, and return the status and the text of the reply.

    Raises `OSError`, `ValueError` or `http.client.HTTPException` if there is no valid reply within `seconds`.
    """
    connection = _connection(address, seconds)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(100_000).decode(errors="replace")
    finally:
        connection.close()


def _connection(address: str, seconds: float) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"), seconds)
    url = urlsplit(address)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("is neither http://HOST:PORT nor https://HOST:PORT nor unix:PATH")
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname, url.port or 80, timeout=seconds)
    # the certificate is that of the name by which clients call, not of this machine's own address
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(url.hostname, url.port or 443, timeout=seconds, context=context)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


if __name__ == "__main__":
    sys.exit(main())
