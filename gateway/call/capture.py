"""Copies of a call's request and reply, for the store.

- The server makes the copies while it reads the request and writes the reply. The copying does not delay a call, and
  cannot make a call fail.
- A copy is cut off at a maximum size.
- `redacted` removes the secrets from the headers before they are stored. It runs in the thread that writes to the disk.

`store/bodies.py` decides where bodies are stored and for how long. `web/admin/bodies.py` decides who may read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.call.chain import Inbound
from gateway.contract.flag import HttpRequest
from gateway.contract.http_headers import SECRET_NAMED
from gateway.store.captured import CapturedBodies, CapturedBody
from gateway.telemetry.log import REDACTED, redact

_IN_ADDRESS: Final = re.compile(r"(?P<login>(?<=//)[^/?#\s@]+(?=@))|(?<=[?&;])(?P<name>[^=?&;\s]*)=[^?&;#\s]+")
"""Pattern for a part of a URL that may be secret: the login (`user:password`), or one query parameter. URLs are in
headers such as `referer`.

No text can begin a match of both alternatives. Otherwise the time of a search would grow with the square of the
header's length.
"""


class Capture:
    """The copies of one call's request and reply. `limit` is the maximum number of bytes of each body."""

    __slots__ = ("_body", "_limit", "_reply", "_reply_headers", "_request_cut", "_request_headers", "_size", "of")

    def __init__(self, of: tuple[str, str, float], limit: int, headers: Mapping[str, str], body: bytes) -> None:
        """Copy the request.

        `of` has three items: the id of the call, the login of its caller, and the Unix time at which the request came.
        """
        self.of = of
        self._limit = limit
        self._request_headers = headers
        self._body = body[:limit]
        self._request_cut = len(body) > limit
        self._reply_headers: Mapping[str, str] = {}
        self._reply = bytearray()
        self._size = 0

    @property
    def size(self) -> int:
        """The number of bytes of both copied bodies."""
        return len(self._body) + len(self._reply)

    def replied(self, headers: Mapping[str, str]) -> None:
        self._reply_headers = headers

    def feed(self, data: bytes) -> None:
        """Copy the next part of the reply's body, up to the limit."""
        if self._size < self._limit:
            self._reply += data[: self._limit - self._size]
        self._size += len(data)

    def redacted(self) -> CapturedBodies:
        """Return the copied request and reply for the store, with secrets in their headers replaced.

        This is called after the call has ended.
        """
        call, identity, at = self.of
        return CapturedBodies(
            call,
            identity,
            at,
            CapturedBody(without_secrets(self._request_headers), self._body, self._request_cut),
            CapturedBody(without_secrets(self._reply_headers), bytes(self._reply), self._size > self._limit),
        )


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with a placeholder in place of each secret value.

    A value counts as secret if the header's name suggests a secret (`SECRET_NAMED`), or if `redact` would hide it in a
    log line. Only the secret parts of a URL are replaced.
    """
    named = {
        # a header may contain bytes that are not UTF-8, which JSON cannot represent
        name.lower().encode("utf-8", "replace").decode(): (
            REDACTED if SECRET_NAMED.search(name) else _without_secrets(value.encode("utf-8", "replace").decode())
        )
        for name, value in headers.items()
    }
    return dict(redact(named))


def _without_secrets(value: str) -> str:
    return _IN_ADDRESS.sub(_mark_secret, value)


def _mark_secret(match: re.Match[str]) -> str:
    if match["login"] is not None:
        return REDACTED
    return f"{match['name']}={REDACTED}" if SECRET_NAMED.search(match["name"]) else match[0]


def capture_of(inbound: Inbound, request: HttpRequest) -> Capture | None:
    """Return a copy of the request, to which the reply is added later, or None if the configuration keeps no bodies."""
    limit = inbound.runtime.config.bodies.limit
    if not limit:
        return None
    login = inbound.identity.login if inbound.identity else ""
    return Capture((inbound.id, login, inbound.at), limit, request.headers, request.body)
