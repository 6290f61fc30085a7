"""The bodies of one call as they are stored, and the interface to a call that gathers them.

Values only. A call gathers its bodies in `call/capture.py`; they are written in `bodies.py`.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec


class CapturedBody(msgspec.Struct, frozen=True):
    """One direction of a call."""

    headers: Mapping[str, str]
    """Names in lower case; a value that may be a secret is `[redacted]`."""
    body: bytes
    """Bytes of the body, at most as many as the configuration allows."""
    cut: bool
    """The body was longer than that."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON: the body as text, or as base64 (`encoding` says which) if it is not UTF-8."""
        try:
            # a body that was cut may end with half a character
            text, encoding = codecs.getincrementaldecoder("utf-8")().decode(self.body, not self.cut), "utf-8"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(self.body).decode(), "base64"
        return {"headers": dict(self.headers), "body": text, "encoding": encoding, "cut": self.cut}


@dataclass(frozen=True, slots=True)
class CapturedBodies:
    """Request and reply of one call."""

    id: str
    identity: str
    """Login of the caller, "" if there is none."""
    at: float
    """Unix time in seconds at which the request came."""
    request: CapturedBody
    reply: CapturedBody


class Capture(Protocol):
    """The bodies of a call that is over, before they are redacted."""

    @property
    def size(self) -> int:
        """Bytes of bodies held in memory."""

    def redacted(self) -> CapturedBodies:
        """Return the bodies as they may be stored. The store calls this in its own thread."""
