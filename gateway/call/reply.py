"""A complete response to a call, and its bytes in HTTP/1.1.

It takes the place of aiohttp's `Response`, which takes several times as long to make and to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Final

import msgspec

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class Reply(msgspec.Struct):
    """A response whose body is known when its headers are sent."""

    status: int
    headers: Mapping[str, str]
    """The headers, with names in lower case. `Date`, `Connection` and `Content-Length` are not among them. They are
    added later.
    """
    body: bytes
    keep_alive: bool = True
    """Whether the client may send its next request on the same connection."""


class _Date:
    """The header line `Date` with the current time. It is formatted once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        if (second := int(time())) != self._second:
            self._second, self._line = second, f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line


_date: Final = _Date()


def encoded(reply: Reply) -> bytes:
    """Return a reply that has a body as the bytes of an HTTP/1.1 response.

    Raises `ValueError` if a header contains the end of a line or a zero byte. Some headers have text from a client or a
    provider.
    """
    own = "".join([f"{name}: {value}\r\n" for name, value in reply.headers.items()])
    if own.count("\n") != len(reply.headers) or own.count("\r") != len(reply.headers) or "\0" in own:
        raise ValueError("a header contains the end of a line")
    if "content-type" not in reply.headers:
        own += "Content-Type: application/octet-stream\r\n"
    if not reply.keep_alive:
        own += "Connection: close\r\n"
    status = f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}\r\n"
    return f"{status}{own}Content-Length: {len(reply.body)}\r\n{_date.line()}\r\n".encode() + reply.body
