"""The types of a call's bodies: as they are collected (`Capture`), and as they are stored (`CapturedBodies`).

`call/capture.py` collects the bodies of a call. `bodies.py` writes them.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec


class CapturedBody(msgspec.Struct, frozen=True):
    """The headers and the body of a call's request or reply."""

    headers: Mapping[str, str]
    """Headers by name in lower case. A value that may be a secret is replaced by `[redacted]`."""
    body: bytes
    """The body, cut to the maximum length in the configuration."""
    cut: bool
    """True if the body was longer than the maximum length, so that `body` is not all of it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the headers and the body in a form that JSON can represent.

        The body is text if it is valid UTF-8, and else base64. `encoding` says which of the two.
        """
        try:
            # a body that was cut may end within a character; the incomplete character is left out
            text, encoding = codecs.getincrementaldecoder("utf-8")().decode(self.body, not self.cut), "utf-8"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(self.body).decode(), "base64"
        return {"headers": dict(self.headers), "body": text, "encoding": encoding, "cut": self.cut}


class CapturedBodies(msgspec.Struct, frozen=True):
    """The stored request and reply of one call, with their headers."""

    id: str
    identity: str
    """Login of the caller. It is "" if the caller has none."""
    at: float
    """Unix time in seconds at which the request arrived."""
    request: CapturedBody
    reply: CapturedBody


class Capture(Protocol):
    """The headers and bodies of a call that has ended. The headers may still contain secrets."""

    @property
    def size(self) -> int:
        """The number of bytes that the body of the request and the body of the reply have together."""

    def redacted(self) -> CapturedBodies:
        """Return the bodies and the headers, with `[redacted]` in place of secrets in the headers. This is what is
        stored.

        `Bodies` calls this method in the thread that writes.
        """


class BodyStore(Protocol):
    """Stores the bodies of calls."""

    def start(self) -> None:
        """Begin to store. Called once, before the first body comes."""

    def close(self) -> None:
        """Store the bodies that are not stored yet. May be called from any thread."""

    def put(self, capture: Capture) -> None:
        """Store the bodies of a call, without waiting. They may be lost."""

    async def of(self, call: str, identity: str | None) -> CapturedBodies | None:
        """Return the bodies of a call. Return None if there are none, or if the call was made by another login than
        `identity`.

        If `identity` is None, the login is not checked. Raises `StoreFailed` if the bodies cannot be read.
        """

    def read(self, call: str, identity: str | None) -> CapturedBodies | None:
        """Return the bodies of a call. Return None if there are none, or if the call was made by another login than
        `identity`.

        If `identity` is None, the login is not checked. Raises `StoreFailed` if the bodies cannot be read. This waits
        for the disk, and may be called from any thread.
        """
