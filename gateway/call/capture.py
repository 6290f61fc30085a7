"""The copy of a call's bodies that the server makes as they pass.

- A copy is cut at a size, and copying neither delays a call nor makes it fail.
- No header with a secret is written down; `redacted` sees to that in the thread that writes.

`store/bodies.py` decides where bodies are written, and for how long; `web/admin/bodies.py`, who may read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.store.captured import CapturedBodies, CapturedBody
from gateway.telemetry.log import REDACTED, redact

_SECRET_NAMED: Final = re.compile(
    r"auth|cookie|key|token|secret|passw|pwd|credential|signature|bearer|jwt", re.IGNORECASE
)
"""Wider than what the log hides: these are other people's headers, and no name among them is worth a key."""
_IN_ADDRESS: Final = re.compile(r"(?P<login>(?<=//)[^/?#\s@]+(?=@))|(?<=[?&;])(?P<name>[^=?&;\s]*)=[^?&;#\s]+")
"""The login, and each parameter, of addresses as `referer` and `location` have them. No part may match the beginning of
another one, or a long header would take the square of its length."""


class Capture:
    """The bodies of a call in flight. `limit` is the number of bytes that are kept of each."""

    __slots__ = ("_body", "_limit", "_reply", "_reply_headers", "_request_cut", "_request_headers", "_size", "of")

    def __init__(self, of: tuple[str, str, float], limit: int, headers: Mapping[str, str], body: bytes) -> None:
        """`of` is the call's id, its caller's login, and when it came."""
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
        """Bytes of bodies that it holds."""
        return len(self._body) + len(self._reply)

    def replied(self, headers: Mapping[str, str]) -> None:
        self._reply_headers = headers

    def feed(self, data: bytes) -> None:
        """Copy more of the response's body."""
        if self._size < self._limit:
            self._reply += data[: self._limit - self._size]
        self._size += len(data)

    def redacted(self) -> CapturedBodies:
        """Return what may be written down, once the call is over."""
        call, identity, at = self.of
        return CapturedBodies(
            call,
            identity,
            at,
            CapturedBody(without_secrets(self._request_headers), self._body, self._request_cut),
            CapturedBody(without_secrets(self._reply_headers), bytes(self._reply), self._size > self._limit),
        )


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without secrets. A secret is known by its header's name, or by its look as in the log."""
    named = {
        # a header may hold bytes that are no text, which JSON could not say
        name.lower().encode("utf-8", "replace").decode(): (
            REDACTED if _SECRET_NAMED.search(name) else _without_secrets(value.encode("utf-8", "replace").decode())
        )
        for name, value in headers.items()
    }
    return dict(redact(None, "", named))


def _without_secrets(value: str) -> str:
    return _IN_ADDRESS.sub(_mark_secret, value)


def _mark_secret(match: re.Match[str]) -> str:
    if match["login"] is not None:
        return REDACTED
    return f"{match['name']}={REDACTED}" if _SECRET_NAMED.search(match["name"]) else match[0]
