"""The head of an HTTP/2 request, written as the head of an HTTP/1.1 request.

- A head is refused if it is malformed according to RFC 9113, sections 8.2 and 8.3. So no header can end early or begin
  another request in HTTP/1.1, and the length of the body is never in doubt (request smuggling).
- `:authority` becomes `Host`. Several `cookie` headers become one.
- A body without `content-length` is sent as chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

Headers = Iterable[tuple[bytes, bytes]]

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PSEUDO: Final = {
    b":method": re.compile(_TOKEN),
    b":scheme": re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*"),
    b":path": re.compile(rb"[!-~]+"),
    b":authority": re.compile(rb"[!-~]+"),
}
"""The pseudo-header fields of a request, each with the pattern that its value must match."""
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(rb"(?![ \t])[^\0\r\n]*(?<![ \t])")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
OF_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Headers about the connection, which HTTP/2 forbids (RFC 9113, 8.2.2)."""
_SPECIAL: Final = frozenset({b"host", b"cookie"})
"""Headers that `http1_head` writes separately: it writes one `host` header, and joins all `cookie` headers into one."""


class MalformedRequest(Exception):
    """The error for the head of a request that is not valid HTTP/2. The message gives the reason."""


class Head(NamedTuple):
    method: bytes
    data: bytes
    """The head in the format of HTTP/1.1."""
    is_chunked: bool
    """Whether the body must follow in HTTP/1.1 chunks."""


def http1_head(headers: Headers, *, has_body: bool) -> Head:
    """Return the head of a request in HTTP/1.1. Raises `MalformedRequest` if the head is not valid HTTP/2.

    `has_body` is true if a body follows the head.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name[:1] == b":":
            _add_pseudo(pseudo, name, value, is_late=bool(fields))
        else:
            _check_field(name, value)
            fields.append((name, value))
    for name in (b":method", b":scheme", b":path"):
        if name not in pseudo:
            raise MalformedRequest(f"{name.decode()} is missing")
    method = pseudo[b":method"]
    if method == b"CONNECT":
        raise MalformedRequest("the gateway is no proxy for CONNECT")
    host = _host(pseudo.get(b":authority"), fields)
    has_length = _has_length(fields)
    lines = [method + b" " + pseudo[b":path"] + b" HTTP/1.1"]
    if host is not None:
        lines.append(b"host: " + host)
    lines += [name + b": " + value for name, value in fields if name not in _SPECIAL]
    if cookies := [value for name, value in fields if name == b"cookie"]:
        lines.append(b"cookie: " + b"; ".join(cookies))
    is_chunked = has_body and not has_length
    if is_chunked:
        lines.append(b"transfer-encoding: chunked")
    return Head(method, b"\r\n".join([*lines, b"", b""]), is_chunked)


def _add_pseudo(pseudo: dict[bytes, bytes], name: bytes, value: bytes, *, is_late: bool) -> None:
    form = _PSEUDO.get(name)
    if form is None or is_late or name in pseudo or not form.fullmatch(value):
        raise MalformedRequest("a pseudo-header field is unknown, late, repeated or not valid")
    pseudo[name] = value


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise MalformedRequest("the name of a header is not valid")
    if not _VALUE.fullmatch(value):
        raise MalformedRequest("the value of a header is not valid")
    if name in OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise MalformedRequest(f"the header {name.decode()} is about the connection, and HTTP/2 forbids it")


def _host(authority: bytes | None, fields: Headers) -> bytes | None:
    """Return the host that the request is for, or None if the request names no host."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (hosts and authority is not None and hosts[0].lower() != authority.lower()):
        raise MalformedRequest("host is repeated, or differs from :authority")
    return authority if authority is not None else next(iter(hosts), None)


def _has_length(fields: Headers) -> bool:
    """Return whether the head has the field `content-length`.

    Raises `MalformedRequest` if the field is repeated, or is no number.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) > 1 or not all(map(_DIGITS.fullmatch, lengths)):
        raise MalformedRequest("content-length is repeated, or is no number")
    return bool(lengths)
