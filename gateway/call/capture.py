"""What is kept of a call's bodies, as the server sees them go by: cut at a size, with headers that hold no secret.

`Capture` is what a call gathers: it copies up to its limit and nothing else, so that no call is slower or fails for
it. `kept` makes of it what may be written down, in the thread that writes. Where that is written, and for how long, is
`store/bodies.py`'s affair; who may read it, `web/admin/bodies.py`'s.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.telemetry.log import REDACTED, redact

_SECRET_NAMED: Final = re.compile(
    r"auth|cookie|key|token|secret|passw|pwd|credential|signature|bearer|jwt", re.IGNORECASE
)
"""Wider than what the log hides: these are other people's headers, and no name among them is worth a key."""
_IN_ADDRESS: Final = re.compile(r"(?P<login>(?<=//)[^/?#\s@]+(?=@))|(?<=[?&;])(?P<name>[^=?&;\s]*)=[^?&;#\s]+")
"""Who logs in, and each parameter, of addresses as `referer` and `location` have them. No part of it may match what
begins another one, or a long header would take the square of its length."""


class Part(msgspec.Struct, frozen=True):
    """One direction of a call, as it is kept."""

    headers: Mapping[str, str]
    """Names in lower case; what may be a secret reads `[redacted]`."""
    body: bytes
    """At most as long as the configuration says."""
    cut: bool
    """There was more than that."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the body as text, or base64 (`encoding` says which) where it is no UTF-8."""
        try:
            # where it was cut, a character at the end may be half there
            text, encoding = codecs.getincrementaldecoder("utf-8")().decode(self.body, not self.cut), "utf-8"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(self.body).decode(), "base64"
        return {"headers": dict(self.headers), "body": text, "encoding": encoding, "cut": self.cut}


@dataclass(frozen=True, slots=True)
class CapturedBodies:
    """The bodies of one call, as they are written down."""

    id: str
    identity: str
    """Login of the caller, "" where there is none."""
    at: float
    """Unix time in seconds at which the request came."""
    request: Part
    reply: Part


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
        """More of the reply's body."""
        if self._size < self._limit:
            self._reply += data[: self._limit - self._size]
        self._size += len(data)

    def kept(self) -> CapturedBodies:
        """What may be written down; to be asked for once the call is over."""
        call, identity, at = self.of
        return CapturedBodies(
            call,
            identity,
            at,
            Part(shown(self._request_headers), self._body, self._request_cut),
            Part(shown(self._reply_headers), bytes(self._reply), self._size > self._limit),
        )


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without secrets: by their name, or, as the log has it, by what their value looks like."""
    named = {
        # a header may hold bytes that are no text, which JSON could not say
        name.lower().encode("utf-8", "replace").decode(): (
            REDACTED if _SECRET_NAMED.search(name) else _without_secrets(value.encode("utf-8", "replace").decode())
        )
        for name, value in headers.items()
    }
    return dict(redact(None, "", named))


def _without_secrets(value: str) -> str:
    return _IN_ADDRESS.sub(_redacted, value)


def _redacted(found: re.Match[str]) -> str:
    if found["login"] is not None:
        return REDACTED
    return f"{found['name']}={REDACTED}" if _SECRET_NAMED.search(found["name"]) else found[0]
